//! What a worker does with the queue: it takes the next delivery that is due, and tells how it ended.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, Direction, Reason};
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::store::SqliteStore;
use crate::{delivery_row, failure_counts};

/// How long what is delivered is remembered.
const RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A delivery that a worker has taken.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// What is to be delivered.
    pub delivery: Delivery,
    /// What was tried before.
    pub history: AttemptHistory,
}

/// What goes first of all that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOrder {
    /// What has been due longest.
    Oldest,
    /// What has never failed, if there is something of that; else what has been due longest.
    NeverFailed,
    /// The same, but of that the latest: whatever came first may be what always fails.
    NewestNeverFailed,
}

impl SqliteStore {
    /// Takes a delivery of that direction that is due, if there is one before which none of the same contact waits or is
    /// being sent, also past the queue.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn claim(
        &self,
        direction: Direction,
        claim_order: ClaimOrder,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let (now, locks) = (self.now().as_millisecond(), Arc::clone(&self.locks));
        self.write(move |transaction| {
            // Who takes a lane from here on sees what is taken here.
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
                            -- Whose lane nobody has is left of a caller who is gone.
                            AND earlier.state <> 'direct')
                       AND due.contact NOT IN (SELECT value FROM json_each(?4))
                     ORDER BY {order} LIMIT 1",
                    ))?
                    .query_row(params![direction.as_str(), now, never_failed, locked], |row| row.get::<_, i64>(0))
                    .optional()
            };
            let mut seq = find_due(claim_order != ClaimOrder::Oldest)?;
            if seq.is_none() && claim_order != ClaimOrder::Oldest {
                seq = find_due(false)?;
            }
            let Some(seq) = seq else { return Ok(None) };
            transaction
                .prepare_cached(
                    "UPDATE deliveries
                     SET state = 'sending', attempts = attempts + 1, last_attempt_at = ?2,
                         first_attempt_at = coalesce(first_attempt_at, ?2)
                     WHERE seq = ?1",
                )?
                .execute([seq, now])?;
            transaction
                .prepare_cached(&format!(
                    "SELECT {}, attempts, failing_since, held_since FROM deliveries WHERE seq = ?1",
                    delivery_row::COLUMNS
                ))?
                .query_row([seq], |row| {
                    let history = AttemptHistory {
                        attempts: row.get::<_, u32>("attempts")?.saturating_sub(1),
                        failing_since: delivery_row::timestamp(row, "failing_since")?,
                        held_since: delivery_row::timestamp(row, "held_since")?,
                    };
                    Ok(Some(ClaimedDelivery { delivery: delivery_row::from_row(row)?, history }))
                })
        })
        .await
    }

    /// Records how an attempt ended.
    ///
    /// # Errors
    /// When the store is unavailable: it must be told again before anything else is sent.
    pub async fn finish_attempt(&self, id: &DeliveryId, result: AttemptResult) -> Result<(), StoreError> {
        let (id, now) = (id.as_str().to_owned(), self.now().as_millisecond());
        self.write(move |transaction| {
            match result {
                AttemptResult::Delivered => 0,
                AttemptResult::DeadLetter(reason)
                | AttemptResult::RetryAt { reason, .. }
                | AttemptResult::HoldUntil { reason, .. } => failure_counts::increment(transaction, &id, reason, now)?,
            };
            match result {
                AttemptResult::Delivered => {
                    release_others(transaction, &id, now)?;
                    transaction
                        .prepare_cached(
                            "UPDATE deliveries
                             SET state = 'delivered', body = NULL, reason = NULL, status = NULL, settled_at = ?2
                             WHERE id = ?1",
                        )?
                        .execute(params![id, now])?
                }
                AttemptResult::DeadLetter(Reason { code, status }) => transaction
                    .prepare_cached(
                        "UPDATE deliveries SET state = 'dead', reason = ?3, status = ?4, settled_at = ?2 WHERE id = ?1",
                    )?
                    .execute(params![id, now, code.as_str(), status])?,
                AttemptResult::RetryAt { at, reason, no_early_retry } => transaction
                    .prepare_cached(
                        "UPDATE deliveries
                         SET state = 'waiting', next_at = ?3, reason = ?4, status = ?5, not_before = iif(?6, ?3, NULL),
                             failing_since = coalesce(failing_since, ?2), held_since = NULL
                         WHERE id = ?1",
                    )?
                    .execute(params![
                        id,
                        now,
                        at.as_millisecond(),
                        reason.code.as_str(),
                        reason.status,
                        no_early_retry
                    ])?,
                AttemptResult::HoldUntil { at, reason } => transaction
                    .prepare_cached(
                        "UPDATE deliveries
                         SET state = 'waiting', next_at = ?3, reason = ?4, status = ?5,
                             held_since = coalesce(held_since, ?2), failing_since = NULL
                         WHERE id = ?1",
                    )?
                    .execute(params![id, now, at.as_millisecond(), reason.code.as_str(), reason.status])?,
            };
            Ok(())
        })
        .await?;
        self.work_available.notify_waiters();
        Ok(())
    }

    /// Makes everything due that has failed in that direction, now that its far end is back: but for what has a firm time.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn release_on_recovery(&self, direction: Direction) -> Result<(), StoreError> {
        let now = self.now().as_millisecond();
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

    /// Forgets what was delivered longer ago than anything can be repeated.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn purge_delivered(&self) -> Result<usize, StoreError> {
        let cutoff = self.now().checked_sub(RETENTION).unwrap_or(Timestamp::UNIX_EPOCH).as_millisecond();
        self.write(move |transaction| {
            let deleted = transaction.execute(
                "DELETE FROM deliveries WHERE settled_at IS NOT NULL AND state = 'delivered' AND settled_at < ?1",
                [cutoff],
            )?;
            failure_counts::delete_orphans(transaction)?;
            Ok(deleted)
        })
        .await
    }
}

/// What has failed, or waited for a person, and gets through shows that others may: those that waited for the same are due,
/// but for those whose time is firm.
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
