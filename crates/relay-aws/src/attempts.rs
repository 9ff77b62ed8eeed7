//! What the ledger is asked before an attempt, and told after it.

use jiff::{SignedDuration, Timestamp};
use relay::store::StoreFault;
use relay_core::delivery::{BodyHash, Cargo, Delivery, DeliveryId, Disposition, History, Reason};

use crate::dead_letter::Death;
use crate::failures::counted;
use crate::ledger::{Ledger, because, delivery_key};
use crate::table::{Change, Item, number, text, time};

/// How long an attempt keeps others away, should the queue hand out its message twice. A worker that is killed keeps it
/// for no longer, and its message is hidden for longer than that.
const ATTEMPT_LEASE: SignedDuration = SignedDuration::from_secs(15);

/// What a worker does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It tries to deliver it; this was tried before.
    Go(History),
    /// It is delivered already: the message is a repeat.
    DoneBefore,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
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
}

impl Ledger {
    /// Begins an attempt.
    ///
    /// # Errors
    /// When the table cannot be written: nothing may be sent then, because it would not be known.
    pub async fn begin(&self, delivery: &Delivery, now: Timestamp) -> Result<Begun, StoreFault> {
        let change = Change::new(
            "SET standing = if_not_exists(standing, :queued), body_hash = :hash, \
             received_at = if_not_exists(received_at, :received), cargo = if_not_exists(cargo, :cargo), \
             first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now, \
             attempt_until = :lease REMOVE not_before, parked, receipt ADD attempts :one",
        )
        // What is done, or is another body under the id, is no attempt. An event that died and was mended has the same key,
        // and another body.
        .only_if(
            "(attribute_not_exists(not_before) OR not_before <= :now) \
             AND (attribute_not_exists(attempt_until) OR attempt_until <= :now) \
             AND (attribute_not_exists(standing) OR standing <> :done) \
             AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (standing = :dead AND cargo = :event))",
        )
        .text(":done", "done")
        .text(":dead", "dead")
        .text(":event", "event")
        .number(":lease", now.checked_add(ATTEMPT_LEASE).unwrap_or(now).as_millisecond())
        .text(":queued", "queued")
        .number(":now", now.as_millisecond())
        .number(":one", 1);
        let key = delivery_key(&delivery.id);
        let Some(item) = self.table().change(&key, self.describe(change, delivery), now).await? else {
            let item = self.table().get(&key).await?;
            return Ok(if is_conflict(&item, delivery) {
                Begun::Conflict
            } else if text(&item, "standing") == Some("done") {
                Begun::DoneBefore
            } else {
                let not_before = time(&item, "not_before").max(time(&item, "attempt_until"));
                Begun::NotBefore(not_before.unwrap_or(now))
            });
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

    /// Notes that a delivery dies without an attempt; what is known of it, where it may not.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn bury(&self, delivery: &Delivery, reason: Reason, now: Timestamp) -> Result<Buried, StoreFault> {
        let change = Change::new(
            "SET standing = :dead, body_hash = :hash, received_at = if_not_exists(received_at, :received), \
             cargo = if_not_exists(cargo, :cargo), reason = :reason, last_status = :status \
             REMOVE failing_since, held_since, not_before, attempt_until, parked, receipt",
        )
        .only_if(
            "(attribute_not_exists(standing) OR standing <> :done) \
             AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (standing = :dead AND cargo = :event))",
        )
        .text(":dead", "dead")
        .text(":done", "done")
        .text(":event", "event");
        let key = delivery_key(&delivery.id);
        match self.table().change(&key, because(self.describe(change, delivery), reason), now).await? {
            Some(item) => Ok(Buried::Dead(Death { reason, attempts: attempts(&item), at: now })),
            None if is_conflict(&self.table().get(&key).await?, delivery) => Ok(Buried::Conflict),
            None => Ok(Buried::DoneBefore),
        }
    }

    /// Notes how an attempt ended; gives how many there were.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn end(&self, id: &DeliveryId, end: Disposition, now: Timestamp) -> Result<u32, StoreFault> {
        let (update, standing, reason) = match end {
            Disposition::Delivered => (
                "SET standing = :standing REMOVE reason, last_status, failing_since, held_since, not_before, \
                 lease_until, attempt_until",
                "done",
                None,
            ),
            Disposition::Dead(reason) => (
                "SET standing = :standing, reason = :reason, last_status = :status \
                 REMOVE failing_since, held_since, attempt_until ADD #failed :failure",
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
            change = counted(because(change, reason), reason);
        }
        if update.contains(":now") {
            change = change.number(":now", now.as_millisecond());
        }
        Ok(self.table().change(&delivery_key(id), change, now).await?.as_ref().map_or(0, attempts))
    }
}

/// Whether an item is that of another body, which is not that of an event that died and was mended.
fn is_conflict(item: &Item, delivery: &Delivery) -> bool {
    let other_body = text(item, "body_hash").is_some_and(|known| known != BodyHash::of(&delivery.body).as_str());
    let mended = text(item, "standing") == Some("dead") && matches!(delivery.cargo, Cargo::LoopsEvent { .. });
    other_body && !mended
}

/// How many attempts were begun.
fn attempts(item: &Item) -> u32 {
    u32::try_from(number(item, "attempts").unwrap_or_default()).unwrap_or(u32::MAX)
}
