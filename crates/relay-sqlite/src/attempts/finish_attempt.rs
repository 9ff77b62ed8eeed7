//! The end of an attempt: what is recorded of it.

use jiff::Timestamp;
use relay::ports::delivery_status::DUPLICATE_STATUS;
use relay::ports::queue::StoreError;
use relay_core::delivery::{AttemptResult, DeliveryId, FinishedAttempt};
use rusqlite::{Transaction, params};

use crate::attempts::release::release_others;
use crate::failure_counts;
use crate::store::SqliteStore;

impl SqliteStore {
    /// Records the result of an attempt. If that fails, the worker must record it before it sends anything else.
    pub async fn finish_attempt(&self, id: &DeliveryId, finished: FinishedAttempt) -> Result<(), StoreError> {
        let (id, now) = (id.as_str().to_owned(), self.clock.now().as_millisecond());
        self.write(move |transaction| finish_attempt(transaction, &id, &finished, now)).await
    }
}

fn finish_attempt(
    transaction: &Transaction<'_>,
    id: &str,
    finished: &FinishedAttempt,
    now: i64,
) -> rusqlite::Result<()> {
    let unknown_since = finished.unknown_since.map(Timestamp::as_millisecond);
    let (at, reason, no_early_retry, is_held) = match finished.result {
        AttemptResult::Delivered => {
            release_others(transaction, id, now)?;
            let sql = "UPDATE deliveries
                       SET state = 'delivered', body = NULL, reason = NULL, status = ?3, settled_at = ?2,
                           unknown_since = NULL, message = NULL
                       WHERE id = ?1";
            let status = finished.duplicate.then_some(DUPLICATE_STATUS);
            return transaction.prepare_cached(sql)?.execute(params![id, now, status]).map(drop);
        }
        AttemptResult::DeadLetter(reason) => {
            failure_counts::increment(transaction, id, reason, now)?;
            let sql = "UPDATE deliveries
                       SET state = 'dead', reason = ?3, status = ?4, settled_at = ?2, unknown_since = ?5, message = ?6
                       WHERE id = ?1";
            let values = params![id, now, reason.code.as_str(), reason.status, unknown_since, finished.message];
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
                 held_since = iif(?7, coalesce(held_since, ?2), NULL), unknown_since = ?8, message = NULL
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
