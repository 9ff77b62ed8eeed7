//! Begin and end of an attempt in the ledger.

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;
use relay_core::delivery::{
    AttemptHistory, AttemptResult, BodyHash, Delivery, DeliveryId, FinishedAttempt, Reason, ReasonCode,
};
use relay_core::policy::retry;

use crate::lambda::time_budget::WORKER_TIMEOUT;
use crate::ledger::deliveries::{Ledger, attempt_count, delivered, delivery_key, reason_of, set_reason};
use crate::ledger::failure_counts::add_failure;
use crate::ledger::items::{
    ATTEMPT_ID, ATTEMPT_UNTIL, ATTEMPTS, BODY_HASH, DEAD, DEAD_LETTER_OF, DELIVERED, DIED_AT, FAILED_AT, FAILING_SINCE,
    FIRST_ATTEMPT_AT, HELD_SINCE, KIND, LAST_ATTEMPT_AT, MESSAGE, NOT_BEFORE, QUEUED, RECEIVED_AT, STATE, STATE_NAME,
    UNKNOWN_SINCE,
};
use crate::ledger::table::{Item, Update, string_attr, time_attr};
use crate::sqs::dead_letter::FailureInfo;

/// Lease of an attempt, in which no other worker attempts the delivery if SQS delivers its message twice.
///
/// It is as long as a worker may run. A worker breaks an attempt off some seconds earlier; clocks may differ by as much. The
/// lease of a killed worker ends before its message becomes visible again.
const ATTEMPT_LEASE: SignedDuration = SignedDuration::from_secs(WORKER_TIMEOUT.as_secs().cast_signed());

/// What a worker may do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeginAttempt {
    Proceed(AttemptHistory),
    /// The delivery is delivered: the message is a repeat.
    AlreadyDelivered,
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
    /// Begins an attempt with an id of its own, for a message that supersedes every failure up to `ignore_failures_until`.
    pub(crate) async fn begin_attempt(
        &self,
        delivery: &Delivery,
        attempt_id: &str,
        ignore_failures_until: Timestamp,
        now: Timestamp,
    ) -> Result<BeginAttempt, StoreError> {
        let update = may_process_message(self.describe(delivery), delivery, ignore_failures_until)
            .set_if_missing(STATE, QUEUED)
            .set_if_missing(KIND, delivery.kind.as_str())
            .set_if_missing(RECEIVED_AT, delivery.received_at)
            .set_if_missing(FIRST_ATTEMPT_AT, now)
            .set(LAST_ATTEMPT_AT, now)
            .set(ATTEMPT_ID, attempt_id)
            .set(ATTEMPT_UNTIL, now.checked_add(ATTEMPT_LEASE).unwrap_or(now))
            .remove(&[NOT_BEFORE])
            .add(ATTEMPTS, 1)
            .only_if(is_over(NOT_BEFORE))
            .only_if(is_over(ATTEMPT_UNTIL))
            .bind("latest_credible", retry::latest_credible_wait(now))
            .bind("now", now);
        let has_key = delivery.kind.idempotency_key().is_some();
        // The worker may be killed before the outcome is known.
        let update = if has_key { update.set_if_missing(UNKNOWN_SINCE, now) } else { update };
        let item = match self.table().update_or_current(&delivery_key(&delivery.id), update, now).await? {
            Ok(item) => item,
            // The write succeeded, its response was lost, and the SDK has retried it.
            Err(item) if string_attr(&item, ATTEMPT_ID) == Some(attempt_id) => item,
            Err(item) if is_conflict(&item, delivery, ignore_failures_until) => return Ok(BeginAttempt::Conflict),
            Err(item) if string_attr(&item, STATE) == Some(DELIVERED) => return Ok(BeginAttempt::AlreadyDelivered),
            Err(item) => {
                let credible = |at: &Timestamp| *at <= retry::latest_credible_wait(now);
                let time_of = |name| time_attr(&item, name).filter(credible);
                let not_before = time_of(NOT_BEFORE).max(time_of(ATTEMPT_UNTIL));
                return Ok(match prior(&item).filter(|died| died.info.at > ignore_failures_until) {
                    Some(died) => BeginAttempt::AlreadyDead(died),
                    None => BeginAttempt::NotBefore(not_before.unwrap_or(now)),
                });
            }
        };
        let begun_now = |since: &Timestamp| since.as_millisecond() == now.as_millisecond();
        let unknown_since = time_attr(&item, UNKNOWN_SINCE).filter(|since| !begun_now(since));
        Ok(BeginAttempt::Proceed(match string_attr(&item, STATE) {
            // An operator has redriven it.
            Some(DEAD) => AttemptHistory { unknown_since, ..AttemptHistory::default() },
            _ => AttemptHistory {
                attempts: attempt_count(&item).saturating_sub(1),
                failing_since: time_attr(&item, FAILING_SINCE).map(|since| {
                    let last_tried_at = time_attr(&item, FAILED_AT).unwrap_or(now);
                    retry::failing_since_while_tried(since, last_tried_at, now)
                }),
                held_since: time_attr(&item, HELD_SINCE),
                unknown_since,
            },
        }))
    }

    /// Dead-letters a delivery without an attempt, for a message that supersedes every failure up to `ignore_failures_until`.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn mark_dead(
        &self,
        delivery: &Delivery,
        ignore_failures_until: Timestamp,
        reason: Reason,
        now: Timestamp,
    ) -> Result<DeadLettered, StoreError> {
        let update = may_process_message(self.describe(delivery), delivery, ignore_failures_until)
            .set(STATE, DEAD)
            .set_if_missing(KIND, delivery.kind.as_str())
            .set_if_missing(RECEIVED_AT, delivery.received_at)
            .set(DIED_AT, now)
            .remove(&[FAILING_SINCE, HELD_SINCE, NOT_BEFORE, ATTEMPT_UNTIL, DEAD_LETTER_OF, MESSAGE]);
        let update = set_reason(update, reason);
        Ok(match self.table().update_or_current(&delivery_key(&delivery.id), update, now).await? {
            Ok(item) => DeadLettered::Marked(FailureInfo { reason, attempts: attempt_count(&item), at: now }),
            Err(item) if is_conflict(&item, delivery, ignore_failures_until) => DeadLettered::Conflict,
            Err(item) => match prior(&item) {
                // The write succeeded, its response was lost, and the SDK has retried it.
                Some(PriorDeath { info: failure, in_dlq: false }) if is_same_death(failure, reason, now) => {
                    DeadLettered::Marked(failure)
                }
                prior => prior.map_or(DeadLettered::AlreadyDelivered, DeadLettered::AlreadyDeadLettered),
            },
        })
    }

    pub(crate) async fn record_in_dlq(
        &self,
        id: &DeliveryId,
        failure: FailureInfo,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = Update::default()
            .set(DEAD_LETTER_OF, failure.at)
            .only_if(format!("{STATE_NAME} = :dead AND {DIED_AT} = :{DEAD_LETTER_OF}"))
            .bind("dead", DEAD);
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
        history: AttemptHistory,
        finished: &FinishedAttempt,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreError> {
        let failed = |state, reason| {
            add_failure(set_reason(Update::default().set(STATE, state), reason), reason)
                .only_if(format!("attribute_not_exists({ATTEMPT_ID}) OR {ATTEMPT_ID} = :attempt"))
                .only_if(format!("attribute_not_exists({STATE_NAME}) OR {STATE_NAME} <> :delivered"))
                .set(FAILED_AT, now)
                .bind("attempt", attempt_id)
                .bind("delivered", DELIVERED)
        };
        let update = match finished.result {
            AttemptResult::Delivered => delivered(finished.duplicate),
            AttemptResult::DeadLetter(reason) => {
                let update = failed(DEAD, reason).set(DIED_AT, now);
                let update = update.remove(&[FAILING_SINCE, HELD_SINCE, ATTEMPT_UNTIL, DEAD_LETTER_OF]);
                match &finished.message {
                    Some(message) => update.set(MESSAGE, message.as_str()),
                    None => update.remove(&[MESSAGE]),
                }
            }
            AttemptResult::RetryAt { at, reason, no_early_retry } => {
                let update = failed(QUEUED, reason).set(FAILING_SINCE, history.failing_since.unwrap_or(now));
                let update = update.remove(&[HELD_SINCE, ATTEMPT_UNTIL, MESSAGE]);
                // The message may come back earlier, if its worker is killed.
                if no_early_retry { update.set(NOT_BEFORE, at) } else { update }
            }
            AttemptResult::HoldUntil { reason, .. } => {
                let update = failed(QUEUED, reason).set_if_missing(HELD_SINCE, now);
                update.remove(&[FAILING_SINCE, ATTEMPT_UNTIL, MESSAGE])
            }
        };
        let update = match finished.unknown_since {
            Some(since) => update.set(UNKNOWN_SINCE, since),
            None => update.remove(&[UNKNOWN_SINCE]),
        };
        Ok(self.table().update(&delivery_key(id), update, now).await?.as_ref().map(attempt_count))
    }
}

/// Returns the condition that a time of an item has come. One that is later than the rules can say was written by a clock that
/// was wrong.
fn is_over(time: &str) -> String {
    format!("attribute_not_exists({time}) OR {time} <= :now OR {time} > :latest_credible")
}

/// Adds the conditions under which the item may be processed for a message.
///
/// They are false if the delivery is delivered, was dead-lettered after the message was sent, or has another body. An event
/// or e-mail that was dead-lettered and whose row was corrected has the same key and another body.
fn may_process_message(update: Update, delivery: &Delivery, ignore_failures_until: Timestamp) -> Update {
    let mut is_same = format!("attribute_not_exists({BODY_HASH}) OR {BODY_HASH} = :{BODY_HASH}");
    if delivery.kind.idempotency_key().is_some() {
        is_same.push_str(&format!(" OR {STATE_NAME} = :dead"));
    }
    update
        .only_if(format!("attribute_not_exists({STATE_NAME}) OR {STATE_NAME} <> :delivered"))
        .only_if(format!(
            "attribute_not_exists({STATE_NAME}) OR {STATE_NAME} <> :dead \
             OR attribute_not_exists({DIED_AT}) OR {DIED_AT} <= :superseded"
        ))
        .only_if(is_same)
        .bind("delivered", DELIVERED)
        .bind("dead", DEAD)
        .bind("superseded", ignore_failures_until)
}

/// Whether an item has another body, other than that of an event or e-mail that was dead-lettered before this message was
/// sent.
fn is_conflict(item: &Item, delivery: &Delivery, ignore_failures_until: Timestamp) -> bool {
    let other_body =
        string_attr(item, BODY_HASH).is_some_and(|known| known != BodyHash::compute(&delivery.body).as_str());
    let has_key = delivery.kind.idempotency_key().is_some();
    let is_superseded = time_attr(item, DIED_AT).is_none_or(|at| at <= ignore_failures_until);
    let is_rerun = string_attr(item, STATE) == Some(DEAD) && has_key && is_superseded;
    other_body && !is_rerun
}

fn prior(item: &Item) -> Option<PriorDeath> {
    let at = time_attr(item, DIED_AT).filter(|_| string_attr(item, STATE) == Some(DEAD))?;
    let reason = reason_of(item).unwrap_or(Reason::without_status(ReasonCode::Internal));
    Some(PriorDeath {
        info: FailureInfo { reason, attempts: attempt_count(item), at },
        in_dlq: time_attr(item, DEAD_LETTER_OF) == Some(at),
    })
}

/// Whether two failures are the same, to the millisecond that the table stores.
fn is_same_death(failure: FailureInfo, reason: Reason, at: Timestamp) -> bool {
    failure.reason == reason && failure.at.as_millisecond() == at.as_millisecond()
}
