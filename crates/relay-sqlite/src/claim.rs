//! The worker's side of the queue: it claims the next delivery that is due, records the result of the attempt, and makes
//! deliveries due whose cause of failure is gone.

use std::sync::Arc;

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, Direction, FinishedAttempt};
use relay_core::policy::retry;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::store::SqliteStore;
use crate::{delivery_row, failure_counts};

/// A delivery that a worker has claimed.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// Its earlier attempts.
    pub history: AttemptHistory,
}

/// Order in which due deliveries are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOrder {
    /// The one that has been due longest.
    Oldest,
    /// One that has never failed, if there is one; else the oldest.
    NeverFailed,
    /// The latest that has never failed, because the first ones may be those that always fail; else the oldest.
    NewestNeverFailed,
}

impl SqliteStore {
    /// Claims a due delivery of a direction. Its contact has no earlier delivery that waits or is being sent, and no caller
    /// on the fast path.
    pub async fn claim(
        &self,
        direction: Direction,
        claim_order: ClaimOrder,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let (claimed_at, locks) = (self.clock.now(), Arc::clone(&self.locks));
        let now = claimed_at.as_millisecond();
        self.write(move |transaction| {
            forget_incredible_waits(transaction, direction, claimed_at)?;
            // A caller that takes a contact lock from here on sees the claim.
            let locked = match direction {
                Direction::ClayToLoops => locks.locked_contacts(),
                Direction::LoopsToClay => "[]".to_owned(),
            };
            let order = match claim_order {
                ClaimOrder::Oldest | ClaimOrder::NeverFailed => "next_at, seq",
                ClaimOrder::NewestNeverFailed => "next_at DESC, seq DESC",
            };
            let find_due = |never_failed: bool| {
                transaction
                    .prepare_cached(&format!(
                        "SELECT seq FROM deliveries AS due
                     WHERE settled_at IS NULL AND direction = ?1 AND state = 'waiting' AND next_at <= ?2
                       AND NOT (?3 AND (failing_since IS NOT NULL OR held_since IS NOT NULL))
                       AND NOT EXISTS (SELECT 1 FROM paused WHERE paused.direction = ?1)
                       AND NOT EXISTS
                         (SELECT 1 FROM deliveries AS earlier
                          WHERE earlier.settled_at IS NULL AND earlier.direction = ?1
                            AND earlier.contact = due.contact AND earlier.seq < due.seq
                            -- A direct row without a lock is left of a caller that is gone.
                            AND earlier.state <> 'direct')
                       AND due.contact NOT IN (SELECT value FROM json_each(?4))
                     ORDER BY {order} LIMIT 1",
                    ))?
                    .query_row(params![direction.as_str(), now, never_failed, locked], |row| row.get::<_, i64>(0))
                    .optional()
            };
            let first = find_due(claim_order != ClaimOrder::Oldest)?;
            let seq = if claim_order == ClaimOrder::Oldest || first.is_some() { first } else { find_due(false)? };
            let Some(seq) = seq else { return Ok(None) };
            let history = load_history(transaction, seq, claimed_at)?;
            transaction
                .prepare_cached(&format!(
                    "UPDATE deliveries
                     SET state = 'sending', attempts = attempts + 1, last_attempt_at = ?2,
                         first_attempt_at = coalesce(first_attempt_at, ?2), failing_since = ?3,
                         -- The process may be killed before the outcome is known.
                         unknown_since = iif(kind = 'event', coalesce(unknown_since, ?2), NULL)
                     WHERE seq = ?1
                     RETURNING {}",
                    delivery_row::COLUMNS
                ))?
                .query_row(params![seq, now, history.failing_since.map(Timestamp::as_millisecond)], |row| {
                    Ok(Some(ClaimedDelivery { delivery: delivery_row::from_row(row)?, history }))
                })
        })
        .await
    }

    /// Records the result of an attempt. If that fails, the worker must record it before it sends anything else.
    pub async fn finish_attempt(&self, id: &DeliveryId, finished: FinishedAttempt) -> Result<(), StoreError> {
        let (id, now) = (id.as_str().to_owned(), self.clock.now().as_millisecond());
        self.write(move |transaction| finish_attempt(transaction, &id, finished, now)).await?;
        self.work_available.notify_waiters();
        Ok(())
    }

    /// Makes all deliveries of a direction due that have failed, now that the destination is back. Those that must not be
    /// retried early stay.
    pub async fn release_on_recovery(&self, direction: Direction) -> Result<(), StoreError> {
        let now = self.clock.now().as_millisecond();
        self.write(move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE deliveries SET next_at = ?2
                     WHERE settled_at IS NULL AND direction = ?1 AND state = 'waiting' AND next_at > ?2
                       AND failing_since IS NOT NULL AND coalesce(not_before, 0) <= ?2",
                )?
                .execute(params![direction.as_str(), now])
        })
        .await?;
        self.work_available.notify_waiters();
        Ok(())
    }
}

/// Makes deliveries due whose next attempt is later than the rules can say: a clock that was wrong has written that.
fn forget_incredible_waits(
    transaction: &Transaction<'_>,
    direction: Direction,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "UPDATE deliveries SET next_at = ?2, not_before = NULL
             WHERE settled_at IS NULL AND direction = ?1 AND state = 'waiting' AND next_at > ?3",
        )?
        .execute(params![direction.as_str(), now.as_millisecond(), retry::latest_credible_wait(now).as_millisecond()])
}

fn load_history(transaction: &Transaction<'_>, seq: i64, now: Timestamp) -> rusqlite::Result<AttemptHistory> {
    transaction
        .prepare_cached(
            "SELECT attempts, failing_since, held_since, last_attempt_at, unknown_since FROM deliveries WHERE seq = ?1",
        )?
        .query_row([seq], |row| {
            let last_tried_at = delivery_row::timestamp(row, "last_attempt_at")?.unwrap_or(now);
            let failing_since = delivery_row::timestamp(row, "failing_since")?;
            Ok(AttemptHistory {
                attempts: row.get("attempts")?,
                failing_since: failing_since.map(|since| retry::failing_since_while_tried(since, last_tried_at, now)),
                held_since: delivery_row::timestamp(row, "held_since")?,
                unknown_since: delivery_row::timestamp(row, "unknown_since")?,
            })
        })
}

fn finish_attempt(
    transaction: &Transaction<'_>,
    id: &str,
    finished: FinishedAttempt,
    now: i64,
) -> rusqlite::Result<()> {
    let unknown_since = finished.unknown_since.map(Timestamp::as_millisecond);
    let (at, reason, no_early_retry, is_held) = match finished.result {
        AttemptResult::Delivered => {
            release_others(transaction, id, now)?;
            let sql = "UPDATE deliveries
                       SET state = 'delivered', body = NULL, reason = NULL, status = NULL, settled_at = ?2,
                           unknown_since = NULL
                       WHERE id = ?1";
            return transaction.prepare_cached(sql)?.execute(params![id, now]).map(drop);
        }
        AttemptResult::DeadLetter(reason) => {
            failure_counts::increment(transaction, id, reason, now)?;
            let sql = "UPDATE deliveries
                       SET state = 'dead', reason = ?3, status = ?4, settled_at = ?2, unknown_since = ?5 WHERE id = ?1";
            let values = params![id, now, reason.code.as_str(), reason.status, unknown_since];
            return transaction.prepare_cached(sql)?.execute(values).map(drop);
        }
        AttemptResult::RetryAt { at, reason, no_early_retry } => (at, reason, no_early_retry, false),
        AttemptResult::HoldUntil { at, reason } => (at, reason, false, true),
    };
    failure_counts::increment(transaction, id, reason, now)?;
    transaction
        .prepare_cached(
            "UPDATE deliveries
             SET state = 'waiting', next_at = ?3, reason = ?4, status = ?5, not_before = iif(?6, ?3, NULL),
                 failing_since = iif(?7, NULL, coalesce(failing_since, ?2)),
                 held_since = iif(?7, coalesce(held_since, ?2), NULL), unknown_since = ?8
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            now,
            at.as_millisecond(),
            reason.code.as_str(),
            reason.status,
            no_early_retry,
            is_held,
            unknown_since
        ])
        .map(drop)
}

/// Makes the other deliveries of the direction due, except those that must not be retried early, if this one has failed or
/// was held before: that it was delivered shows that others may be.
fn release_others(transaction: &Transaction<'_>, id: &str, now: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "UPDATE deliveries SET next_at = ?2
             WHERE settled_at IS NULL AND state = 'waiting' AND next_at > ?2 AND coalesce(not_before, 0) <= ?2
               AND direction = (SELECT direction FROM deliveries WHERE id = ?1)
               AND EXISTS (SELECT 1 FROM deliveries
                           WHERE id = ?1 AND (failing_since IS NOT NULL OR held_since IS NOT NULL))",
        )?
        .execute(params![id, now])
}
