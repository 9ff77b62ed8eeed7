//! What the ledger is asked before an attempt, and told after it.

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreFault;
use relay_core::delivery::{BodyHash, Cargo, Delivery, DeliveryId, Disposition, History, Reason, ReasonCode};

use crate::lambda::sqs::USUAL_TIME;
use crate::ledger::deliveries::{Ledger, because, delivery_key};
use crate::ledger::failure_counts::counted;
use crate::ledger::table::{Change, Item, number, text, time};
use crate::sqs::dead_letter::Death;

/// How long an attempt keeps others away, should the queue hand out its message twice: for as long as a worker may run. It
/// breaks an attempt off some seconds before, so much may clocks differ. A worker that is killed keeps others away for no
/// longer than one that is not, and its message is hidden for longer than that.
const ATTEMPT_LEASE: SignedDuration = SignedDuration::from_secs(USUAL_TIME.as_secs().cast_signed());

/// The condition under which a delivery is that of a message: what is done, or dead for this message, or is another body
/// under the id, is not. An event that died and was mended has the same key, and another body. [`of_message`] has its values.
macro_rules! is_the_messages {
    () => {
        "(attribute_not_exists(standing) OR standing <> :done) \
         AND (attribute_not_exists(standing) OR standing <> :dead \
              OR attribute_not_exists(died_at) OR died_at <= :outlives) \
         AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (standing = :dead AND cargo = :event))"
    };
}

/// What a worker does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It tries to deliver it; this was tried before.
    Go(History),
    /// It is delivered already: the message is a repeat.
    DoneBefore,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
    /// It is dead, and nobody has taken it out of the dead letters since.
    DiedBefore(Died),
    /// Its far end asked to be left alone until then, or another worker has it and is to be done by then.
    NotBefore(Timestamp),
}

/// What a delivery that was to die without an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buried {
    /// Dead.
    Dead(Death),
    /// Delivered already.
    DoneBefore,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
    /// Dead already, and nobody has taken it out of the dead letters since.
    DiedBefore(Died),
}

/// A death that is over for everybody but a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died {
    /// How it died.
    pub death: Death,
    /// Whether its letter is surely among the dead letters.
    pub kept: bool,
}

impl Ledger {
    /// Begins an attempt, which has a name of its own, for a message that outlives every death up to then.
    ///
    /// # Errors
    /// When the table cannot be written: nothing may be sent then, because it would not be known.
    pub async fn begin(
        &self,
        delivery: &Delivery,
        attempt: &str,
        outlives: Timestamp,
        now: Timestamp,
    ) -> Result<Begun, StoreFault> {
        let change = Change::new(
            "SET standing = if_not_exists(standing, :queued), body_hash = :hash, \
             received_at = if_not_exists(received_at, :received), cargo = if_not_exists(cargo, :cargo), \
             first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now, \
             attempt_until = :lease, attempt_id = :attempt REMOVE not_before, parked, receipt ADD attempts :one",
        )
        .only_if(concat!(
            "(attribute_not_exists(not_before) OR not_before <= :now) \
             AND (attribute_not_exists(attempt_until) OR attempt_until <= :now) AND ",
            is_the_messages!()
        ))
        .text(":attempt", attempt)
        .number(":lease", now.checked_add(ATTEMPT_LEASE).unwrap_or(now).as_millisecond())
        .text(":queued", "queued")
        .number(":now", now.as_millisecond())
        .number(":one", 1);
        let key = delivery_key(&delivery.id);
        let item =
            match self.table().change_or_see(&key, self.describe(of_message(change, outlives), delivery), now).await? {
                Ok(item) => item,
                // It was begun, the answer was lost, and the SDK has asked once more.
                Err(item) if text(&item, "attempt_id") == Some(attempt) => item,
                Err(item) if is_conflict(&item, delivery, outlives) => return Ok(Begun::Conflict),
                Err(item) if text(&item, "standing") == Some("done") => return Ok(Begun::DoneBefore),
                Err(item) => {
                    let not_before = time(&item, "not_before").max(time(&item, "attempt_until"));
                    return Ok(match died(&item).filter(|died| died.death.at > outlives) {
                        Some(died) => Begun::DiedBefore(died),
                        None => Begun::NotBefore(not_before.unwrap_or(now)),
                    });
                }
            };
        Ok(Begun::Go(match text(&item, "standing") {
            // A person has taken it out of the dead letters.
            Some("dead") => History::default(),
            _ => History {
                attempts: attempts(&item).saturating_sub(1),
                failing_since: time(&item, "failing_since"),
                held_since: time(&item, "held_since"),
            },
        }))
    }

    /// Notes that a delivery dies without an attempt, for a message that outlives every death up to then; what is known of
    /// it, where it may not.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn bury(
        &self,
        delivery: &Delivery,
        outlives: Timestamp,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Buried, StoreFault> {
        let change = Change::new(
            "SET standing = :dead, body_hash = :hash, received_at = if_not_exists(received_at, :received), \
             cargo = if_not_exists(cargo, :cargo), reason = :reason, last_status = :status, died_at = :now \
             REMOVE failing_since, held_since, not_before, attempt_until, parked, receipt, letter_of",
        )
        .only_if(is_the_messages!())
        .number(":now", now.as_millisecond());
        let change = because(self.describe(of_message(change, outlives), delivery), reason);
        Ok(match self.table().change_or_see(&delivery_key(&delivery.id), change, now).await? {
            Ok(item) => Buried::Dead(Death { reason, attempts: attempts(&item), at: now }),
            Err(item) if is_conflict(&item, delivery, outlives) => Buried::Conflict,
            Err(item) => match died(&item) {
                // It died of this, the answer was lost, and the SDK has asked once more.
                Some(Died { death, kept: false }) if is_same(death, reason, now) => Buried::Dead(death),
                died => died.map_or(Buried::DoneBefore, Buried::DiedBefore),
            },
        })
    }

    /// Notes that the letter of a death is among the dead letters.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn kept(&self, id: &DeliveryId, death: Death, now: Timestamp) -> Result<(), StoreFault> {
        let change = Change::new("SET letter_of = :died").only_if("standing = :dead AND died_at = :died");
        let change = change.text(":dead", "dead").number(":died", death.at.as_millisecond());
        self.table().change(&delivery_key(id), change, now).await.map(drop)
    }

    /// Notes how this attempt ended; gives how many there were. Nothing, where the delivery is not this attempt's any more:
    /// it is done, or another one was begun. That it is delivered is noted all the same.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn end(
        &self,
        id: &DeliveryId,
        attempt: &str,
        end: Disposition,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreFault> {
        let (update, standing, reason) = match end {
            Disposition::Delivered => (
                "SET standing = :standing REMOVE reason, last_status, failing_since, held_since, not_before, \
                 lease_until, attempt_until",
                "done",
                None,
            ),
            Disposition::Dead(reason) => (
                "SET standing = :standing, reason = :reason, last_status = :status, died_at = :now \
                 REMOVE failing_since, held_since, attempt_until, letter_of ADD #failed :failure",
                "dead",
                Some(reason),
            ),
            Disposition::TryLater { reason, .. } => (
                "SET standing = :standing, reason = :reason, last_status = :status, \
                 failing_since = if_not_exists(failing_since, :now) REMOVE held_since, attempt_until \
                 ADD #failed :failure",
                "queued",
                Some(reason),
            ),
            Disposition::Hold { reason, .. } => (
                "SET standing = :standing, reason = :reason, last_status = :status, \
                 held_since = if_not_exists(held_since, :now) REMOVE failing_since, attempt_until \
                 ADD #failed :failure",
                "queued",
                Some(reason),
            ),
        };
        let mut change = Change::new(update).text(":standing", standing);
        if let Some(reason) = reason {
            change = counted(because(change, reason), reason)
                .only_if(
                    "(attribute_not_exists(attempt_id) OR attempt_id = :attempt) \
                     AND (attribute_not_exists(standing) OR standing <> :done)",
                )
                .text(":attempt", attempt)
                .text(":done", "done");
        }
        // Also where the message comes back before its time, because its worker was killed.
        if let Disposition::TryLater { at, firm: true, .. } = end {
            change = change.also("not_before = :at").number(":at", at.as_millisecond());
        }
        if update.contains(":now") {
            change = change.number(":now", now.as_millisecond());
        }
        Ok(self.table().change(&delivery_key(id), change, now).await?.as_ref().map(attempts))
    }
}

/// The values of a message that outlives every death up to then; `:hash` is that of its body.
fn of_message(change: Change, outlives: Timestamp) -> Change {
    let change = change.text(":done", "done").text(":dead", "dead").text(":event", "event");
    change.number(":outlives", outlives.as_millisecond())
}

/// Whether an item is that of another body, which is not that of an event that died before this message and was mended.
fn is_conflict(item: &Item, delivery: &Delivery, outlives: Timestamp) -> bool {
    let other_body = text(item, "body_hash").is_some_and(|known| known != BodyHash::of(&delivery.body).as_str());
    let is_event = matches!(delivery.cargo, Cargo::LoopsEvent { .. });
    let is_over = time(item, "died_at").is_none_or(|at| at <= outlives);
    let mended = text(item, "standing") == Some("dead") && is_event && is_over;
    other_body && !mended
}

/// How the delivery of an item died, where it is dead and that is known.
fn died(item: &Item) -> Option<Died> {
    let at = time(item, "died_at").filter(|_| text(item, "standing") == Some("dead"))?;
    let code = text(item, "reason").and_then(ReasonCode::read).unwrap_or(ReasonCode::Internal);
    let status = number(item, "last_status").and_then(|status| u16::try_from(status).ok());
    let reason = Reason { code, status: status.filter(|status| *status > 0) };
    Some(Died { death: Death { reason, attempts: attempts(item), at }, kept: time(item, "letter_of") == Some(at) })
}

/// Whether a death is the one that was to be noted, as far as a store keeps time.
fn is_same(death: Death, reason: Reason, at: Timestamp) -> bool {
    death.reason == reason && death.at.as_millisecond() == at.as_millisecond()
}

/// How many attempts were begun.
fn attempts(item: &Item) -> u32 {
    u32::try_from(number(item, "attempts").unwrap_or_default()).unwrap_or(u32::MAX)
}
