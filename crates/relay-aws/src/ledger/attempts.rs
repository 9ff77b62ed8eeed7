//! Begin and end of an attempt in the ledger.

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

/// Lease of an attempt, in which no other worker attempts the delivery if SQS delivers its message twice.
///
/// It is as long as a worker may run. A worker breaks an attempt off some seconds earlier; clocks may differ by as much. The
/// lease of a killed worker ends before its message becomes visible again.
const ATTEMPT_LEASE: SignedDuration = SignedDuration::from_secs(WORKER_TIMEOUT.as_secs().cast_signed());

/// Condition expression: the item may be processed for this message.
///
/// It is false if the delivery is delivered, was dead-lettered after the message was sent, or has another body. An event that
/// was dead-lettered and whose row was corrected has the same key and another body. [`bind_message`] binds the values.
macro_rules! may_process_message {
    () => {
        "(attribute_not_exists(#state) OR #state <> :delivered) \
         AND (attribute_not_exists(#state) OR #state <> :dead \
              OR attribute_not_exists(died_at) OR died_at <= :outlives) \
         AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (#state = :dead AND kind = :event))"
    };
}

/// What a worker may do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeginAttempt {
    /// The worker attempts the delivery, with this history.
    Proceed(AttemptHistory),
    /// The delivery is delivered: the message is a repeat.
    AlreadyDelivered,
    /// Another body is delivered or waits under its id.
    Conflict,
    /// The delivery is dead-lettered, and no operator has redriven it since.
    AlreadyDead(PriorDeath),
    /// The destination takes it at that time at the earliest, or another worker's lease ends then.
    NotBefore(Timestamp),
}

/// Result of dead-lettering a delivery without an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLettered {
    /// It is dead-lettered now.
    Marked(FailureInfo),
    /// It is delivered.
    AlreadyDelivered,
    /// Another body is delivered or waits under its id.
    Conflict,
    /// It was dead-lettered earlier, and no operator has redriven it since.
    AlreadyDeadLettered(PriorDeath),
}

/// An earlier failure that only an operator can undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorDeath {
    /// The failure.
    pub info: FailureInfo,
    /// Whether its dead letter is certainly in the dead-letter queue.
    pub in_dlq: bool,
}

impl Ledger {
    /// Begins an attempt with an id of its own, for a message that supersedes every failure up to `superseded_until`.
    pub(crate) async fn begin_attempt(
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
            // The write succeeded, its response was lost, and the SDK has retried it.
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
            // An operator has redriven it.
            Some("dead") => AttemptHistory::default(),
            _ => AttemptHistory {
                attempts: attempt_count(&item).saturating_sub(1),
                failing_since: time_attr(&item, FAILING_SINCE),
                held_since: time_attr(&item, HELD_SINCE),
            },
        }))
    }

    /// Dead-letters a delivery without an attempt, for a message that supersedes every failure up to `superseded_until`.
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
                // The write succeeded, its response was lost, and the SDK has retried it.
                Some(PriorDeath { info: failure, in_dlq: false }) if is_same_death(failure, reason, now) => {
                    DeadLettered::Marked(failure)
                }
                prior => prior.map_or(DeadLettered::AlreadyDelivered, DeadLettered::AlreadyDeadLettered),
            },
        })
    }

    /// Records that the dead letter of a failure is in the dead-letter queue.
    pub(crate) async fn in_dlq(&self, id: &DeliveryId, failure: FailureInfo, now: Timestamp) -> Result<(), StoreError> {
        let update = Update::new("SET dead_letter_of = :died").condition("#state = :dead AND died_at = :died");
        let update = update.string_attr(":dead", "dead").number_attr(":died", failure.at.as_millisecond());
        self.table().update(&delivery_key(id), update, now).await?;
        Ok(())
    }

    /// Records the result of an attempt and returns the number of attempts.
    ///
    /// Returns nothing if the delivery has ended or another attempt was begun meanwhile. [`AttemptResult::Delivered`] is
    /// recorded in any case.
    pub(crate) async fn finish_attempt(
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
        // The message may come back earlier, if its worker is killed.
        if let AttemptResult::RetryAt { at, no_early_retry: true, .. } = finish_attempt {
            item_update = item_update.and_set(format!("{NOT_BEFORE} = :at")).number_attr(":at", at.as_millisecond());
        }
        if expression.contains(":now") {
            item_update = item_update.number_attr(":now", now.as_millisecond());
        }
        Ok(self.table().update(&delivery_key(id), item_update, now).await?.as_ref().map(attempt_count))
    }
}

/// Binds the values of [`may_process_message`]; [`Ledger::bind_delivery`] binds `:hash`.
fn bind_message(update: Update, superseded_until: Timestamp) -> Update {
    let update =
        update.string_attr(":delivered", "delivered").string_attr(":dead", "dead").string_attr(":event", "event");
    update.number_attr(":outlives", superseded_until.as_millisecond())
}

/// Whether an item has another body, other than that of an event that was dead-lettered before this message was sent.
fn is_conflict(item: &Item, delivery: &Delivery, superseded_until: Timestamp) -> bool {
    let other_body =
        string_attr(item, BODY_HASH).is_some_and(|known| known != BodyHash::compute(&delivery.body).as_str());
    let is_event = matches!(delivery.kind, DeliveryKind::LoopsEvent { .. });
    let is_superseded = time_attr(item, DIED_AT).is_none_or(|at| at <= superseded_until);
    let is_rerun_event = string_attr(item, STATE) == Some("dead") && is_event && is_superseded;
    other_body && !is_rerun_event
}

/// Returns the failure of a dead-lettered item.
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

/// Whether two failures are the same, to the millisecond that the table stores.
fn is_same_death(failure: FailureInfo, reason: Reason, at: Timestamp) -> bool {
    failure.reason == reason && failure.at.as_millisecond() == at.as_millisecond()
}

/// Returns the number of attempts that were begun.
fn attempt_count(item: &Item) -> u32 {
    u32::try_from(number_attr(item, ATTEMPTS).unwrap_or_default()).unwrap_or(u32::MAX)
}
