//! What the ledger is asked before an attempt, and told after it.

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;
use relay_core::delivery::{
    AttemptHistory, AttemptResult, BodyHash, Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode,
};

use crate::lambda::time_budget::WORKER_TIMEOUT;
use crate::ledger::deliveries::{Ledger, bind_reason, delivery_key};
use crate::ledger::failure_counts::add_failure;
use crate::ledger::items::{
    ATTEMPT_ID, ATTEMPT_UNTIL, ATTEMPTS, BODY_HASH, DEAD_LETTER_OF, DIED_AT, FAILING_SINCE, HELD_SINCE, LAST_STATUS,
    NOT_BEFORE, REASON, STATE,
};
use crate::ledger::table::{Item, Update, number_attr, string_attr, time_attr};
use crate::sqs::dead_letter::FailureInfo;

/// How long an attempt keeps others away, should the queue hand out its message twice: for as long as a worker may run. It
/// breaks an attempt off some seconds before, so much may clocks differ. A worker that is killed keeps others away for no
/// longer than one that is not, and its message is hidden for longer than that.
const ATTEMPT_LEASE: SignedDuration = SignedDuration::from_secs(WORKER_TIMEOUT.as_secs().cast_signed());

/// The condition under which a delivery is that of a message: what is done, or dead for this message, or is another body
/// under the id, is not. An event that died and was mended has the same key, and another body. [`of_message`] has its values.
macro_rules! may_process_message {
    () => {
        "(attribute_not_exists(#state) OR #state <> :delivered) \
         AND (attribute_not_exists(#state) OR #state <> :dead \
              OR attribute_not_exists(died_at) OR died_at <= :outlives) \
         AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (#state = :dead AND kind = :event))"
    };
}

/// What a worker does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginAttempt {
    /// It tries to deliver it; this was tried before.
    Proceed(AttemptHistory),
    /// It is delivered already: the message is a repeat.
    AlreadyDelivered,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
    /// It is dead, and nobody has taken it out of the dead letters since.
    AlreadyDead(PriorDeath),
    /// Its far end asked to be left alone until then, or another worker has it and is to be done by then.
    NotBefore(Timestamp),
}

/// What a delivery that was to die without an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLettered {
    /// Dead.
    Marked(FailureInfo),
    /// Delivered already.
    AlreadyDelivered,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
    /// Dead already, and nobody has taken it out of the dead letters since.
    AlreadyDeadLettered(PriorDeath),
}

/// A death that is over for everybody but a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorDeath {
    /// How it died.
    pub info: FailureInfo,
    /// Whether its letter is surely among the dead letters.
    pub in_dlq: bool,
}

impl Ledger {
    /// Begins an attempt, which has a name of its own, for a message that outlives every death up to then.
    ///
    /// # Errors
    /// When the table cannot be written: nothing may be sent then, because it would not be known.
    pub async fn begin_attempt(
        &self,
        delivery: &Delivery,
        attempt_id: &str,
        superseded_until: Timestamp,
        now: Timestamp,
    ) -> Result<BeginAttempt, StoreError> {
        let update = Update::new(
            "SET #state = if_not_exists(#state, :queued), body_hash = :hash, \
             received_at = if_not_exists(received_at, :received), kind = if_not_exists(kind, :kind), \
             first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now, \
             attempt_until = :lease, attempt_id = :attempt REMOVE not_before ADD attempts :one",
        )
        .condition(concat!(
            "(attribute_not_exists(not_before) OR not_before <= :now) \
             AND (attribute_not_exists(attempt_until) OR attempt_until <= :now) AND ",
            may_process_message!()
        ))
        .string_attr(":attempt", attempt_id)
        .number_attr(":lease", now.checked_add(ATTEMPT_LEASE).unwrap_or(now).as_millisecond())
        .string_attr(":queued", "queued")
        .number_attr(":now", now.as_millisecond())
        .number_attr(":one", 1);
        let key = delivery_key(&delivery.id);
        let item = match self
            .table()
            .update_or_current(&key, self.bind_delivery(bind_message(update, superseded_until), delivery), now)
            .await?
        {
            Ok(item) => item,
            // It was begun, the answer was lost, and the SDK has asked once more.
            Err(item) if string_attr(&item, ATTEMPT_ID) == Some(attempt_id) => item,
            Err(item) if is_conflict(&item, delivery, superseded_until) => return Ok(BeginAttempt::Conflict),
            Err(item) if string_attr(&item, STATE) == Some("delivered") => return Ok(BeginAttempt::AlreadyDelivered),
            Err(item) => {
                let not_before = time_attr(&item, NOT_BEFORE).max(time_attr(&item, ATTEMPT_UNTIL));
                return Ok(match prior(&item).filter(|died| died.info.at > superseded_until) {
                    Some(died) => BeginAttempt::AlreadyDead(died),
                    None => BeginAttempt::NotBefore(not_before.unwrap_or(now)),
                });
            }
        };
        Ok(BeginAttempt::Proceed(match string_attr(&item, STATE) {
            // A person has taken it out of the dead letters.
            Some("dead") => AttemptHistory::default(),
            _ => AttemptHistory {
                attempts: attempt_count(&item).saturating_sub(1),
                failing_since: time_attr(&item, FAILING_SINCE),
                held_since: time_attr(&item, HELD_SINCE),
            },
        }))
    }

    /// Notes that a delivery dies without an attempt, for a message that outlives every death up to then; what is known of
    /// it, where it may not.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn mark_dead(
        &self,
        delivery: &Delivery,
        superseded_until: Timestamp,
        reason: Reason,
        now: Timestamp,
    ) -> Result<DeadLettered, StoreError> {
        let update = Update::new(
            "SET #state = :dead, body_hash = :hash, received_at = if_not_exists(received_at, :received), \
             kind = if_not_exists(kind, :kind), reason = :reason, last_status = :status, died_at = :now \
             REMOVE failing_since, held_since, not_before, attempt_until, dead_letter_of",
        )
        .condition(may_process_message!())
        .number_attr(":now", now.as_millisecond());
        let update = bind_reason(self.bind_delivery(bind_message(update, superseded_until), delivery), reason);
        Ok(match self.table().update_or_current(&delivery_key(&delivery.id), update, now).await? {
            Ok(item) => DeadLettered::Marked(FailureInfo { reason, attempts: attempt_count(&item), at: now }),
            Err(item) if is_conflict(&item, delivery, superseded_until) => DeadLettered::Conflict,
            Err(item) => match prior(&item) {
                // It died of this, the answer was lost, and the SDK has asked once more.
                Some(PriorDeath { info: failure, in_dlq: false }) if is_same_death(failure, reason, now) => {
                    DeadLettered::Marked(failure)
                }
                prior => prior.map_or(DeadLettered::AlreadyDelivered, DeadLettered::AlreadyDeadLettered),
            },
        })
    }

    /// Notes that the letter of a death is among the dead letters.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn in_dlq(&self, id: &DeliveryId, failure: FailureInfo, now: Timestamp) -> Result<(), StoreError> {
        let update = Update::new("SET dead_letter_of = :died").condition("#state = :dead AND died_at = :died");
        let update = update.string_attr(":dead", "dead").number_attr(":died", failure.at.as_millisecond());
        self.table().update(&delivery_key(id), update, now).await.map(drop)
    }

    /// Notes how this attempt ended; gives how many there were. Nothing, where the delivery is not this attempt's any more:
    /// it is done, or another one was begun. That it is delivered is noted all the same.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn finish_attempt(
        &self,
        id: &DeliveryId,
        attempt_id: &str,
        finish_attempt: AttemptResult,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreError> {
        let (expression, state, reason) = match finish_attempt {
            AttemptResult::Delivered => (
                "SET #state = :state REMOVE reason, last_status, failing_since, held_since, not_before, \
                 lease_until, attempt_until",
                "delivered",
                None,
            ),
            AttemptResult::DeadLetter(reason) => (
                "SET #state = :state, reason = :reason, last_status = :status, died_at = :now \
                 REMOVE failing_since, held_since, attempt_until, dead_letter_of ADD #failed :failure",
                "dead",
                Some(reason),
            ),
            AttemptResult::RetryAt { reason, .. } => (
                "SET #state = :state, reason = :reason, last_status = :status, \
                 failing_since = if_not_exists(failing_since, :now) REMOVE held_since, attempt_until \
                 ADD #failed :failure",
                "queued",
                Some(reason),
            ),
            AttemptResult::HoldUntil { reason, .. } => (
                "SET #state = :state, reason = :reason, last_status = :status, \
                 held_since = if_not_exists(held_since, :now) REMOVE failing_since, attempt_until \
                 ADD #failed :failure",
                "queued",
                Some(reason),
            ),
        };
        let mut item_update = Update::new(expression).string_attr(":state", state);
        if let Some(reason) = reason {
            item_update = add_failure(bind_reason(item_update, reason), reason)
                .condition(
                    "(attribute_not_exists(attempt_id) OR attempt_id = :attempt) \
                     AND (attribute_not_exists(#state) OR #state <> :delivered)",
                )
                .string_attr(":attempt", attempt_id)
                .string_attr(":delivered", "delivered");
        }
        // Also where the message comes back before its time, because its worker was killed.
        if let AttemptResult::RetryAt { at, no_early_retry: true, .. } = finish_attempt {
            item_update = item_update.and_set("not_before = :at").number_attr(":at", at.as_millisecond());
        }
        if expression.contains(":now") {
            item_update = item_update.number_attr(":now", now.as_millisecond());
        }
        Ok(self.table().update(&delivery_key(id), item_update, now).await?.as_ref().map(attempt_count))
    }
}

/// The values of a message that outlives every death up to then; `:hash` is that of its body.
fn bind_message(update: Update, superseded_until: Timestamp) -> Update {
    let update =
        update.string_attr(":delivered", "delivered").string_attr(":dead", "dead").string_attr(":event", "event");
    update.number_attr(":outlives", superseded_until.as_millisecond())
}

/// Whether an item is that of another body, which is not that of an event that died before this message and was mended.
fn is_conflict(item: &Item, delivery: &Delivery, superseded_until: Timestamp) -> bool {
    let other_body =
        string_attr(item, BODY_HASH).is_some_and(|known| known != BodyHash::compute(&delivery.body).as_str());
    let is_event = matches!(delivery.kind, DeliveryKind::LoopsEvent { .. });
    let is_superseded = time_attr(item, DIED_AT).is_none_or(|at| at <= superseded_until);
    let is_rerun_event = string_attr(item, STATE) == Some("dead") && is_event && is_superseded;
    other_body && !is_rerun_event
}

/// How the delivery of an item died, where it is dead and that is known.
fn prior(item: &Item) -> Option<PriorDeath> {
    let at = time_attr(item, DIED_AT).filter(|_| string_attr(item, STATE) == Some("dead"))?;
    let code = string_attr(item, REASON).and_then(ReasonCode::parse).unwrap_or(ReasonCode::Internal);
    let status = number_attr(item, LAST_STATUS).and_then(|status| u16::try_from(status).ok());
    let reason = Reason { code, status: status.filter(|status| *status > 0) };
    Some(PriorDeath {
        info: FailureInfo { reason, attempts: attempt_count(item), at },
        in_dlq: time_attr(item, DEAD_LETTER_OF) == Some(at),
    })
}

/// Whether a death is the one that was to be noted, as far as a store keeps time.
fn is_same_death(failure: FailureInfo, reason: Reason, at: Timestamp) -> bool {
    failure.reason == reason && failure.at.as_millisecond() == at.as_millisecond()
}

/// How many attempts were begun.
fn attempt_count(item: &Item) -> u32 {
    u32::try_from(number_attr(item, ATTEMPTS).unwrap_or_default()).unwrap_or(u32::MAX)
}
