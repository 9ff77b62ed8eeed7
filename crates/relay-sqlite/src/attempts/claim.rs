//! Claims: the deliveries that a worker sends next.

use std::sync::Arc;

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::delivery::{AttemptHistory, Delivery, Direction};
use relay_core::policy::retry;
use rusqlite::{Row, Transaction, params};

use crate::admin::queries::paused_since;
use crate::delivery_row::{self, AFTER_ANOTHER_MS};
use crate::durability::change::WriteOptions;
use crate::store::SqliteStore;

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
    /// Claims due deliveries of a direction, at most `max`, of different contacts. No contact has an earlier delivery that waits
    /// or is being sent, or a caller on the fast path.
    pub async fn claim(
        &self,
        direction: Direction,
        claim_order: ClaimOrder,
        max: usize,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let (now, locks) = (self.clock.now(), Arc::clone(&self.locks));
        // A row that could not be stored is sent if the reader finds nothing of its contact: what is claimed must be there.
        let options = WriteOptions { is_first: true, ..WriteOptions::default() };
        let claim = move |transaction: &Transaction<'_>| {
            if paused_since(transaction, direction)?.is_some() {
                return Ok(Vec::new());
            }
            forget_incredible_waits(transaction, direction, now)?;
            // A caller that takes a contact lock from here on sees the claim.
            let locked = match direction {
                Direction::ClayToLoops => locks.locked_contacts(),
                Direction::LoopsToClay => "[]".to_owned(),
            };
            let limit = i64::try_from(max).unwrap_or(i64::MAX);
            let find_due = |failed: bool, newest_first| {
                let mut statement = transaction.prepare_cached(&select_due(newest_first))?;
                let parameters = params![direction.as_str(), !failed, now.as_millisecond(), locked, limit];
                statement.query_map(parameters, Due::from_row)?.collect::<rusqlite::Result<Vec<_>>>()
            };
            let mut due = find_due(false, claim_order == ClaimOrder::NewestNeverFailed)?;
            if claim_order == ClaimOrder::Oldest || due.len() < max {
                due.extend(find_due(true, false)?);
            }
            if claim_order == ClaimOrder::Oldest {
                due.sort_by_key(|due| (due.next_at, due.seq));
            }
            due.truncate(max);
            due.into_iter().map(|due| due.claim(transaction, now)).collect()
        };
        self.writer.write(options, claim).await
    }
}

/// Selects the due deliveries that have never failed, or the others.
fn select_due(newest_first: bool) -> String {
    let order = if newest_first { "DESC" } else { "ASC" };
    format!(
        "SELECT seq, next_at, attempts, failing_since, held_since, last_attempt_at, unknown_since
         FROM deliveries AS due INDEXED BY deliveries_due
         WHERE state = 'waiting' AND direction = ?1 AND (failing_since IS NULL AND held_since IS NULL) = ?2
           AND next_at <= ?3
           AND NOT EXISTS
             (SELECT 1 FROM deliveries AS earlier INDEXED BY deliveries_in_order
              WHERE earlier.direction = ?1 AND earlier.contact = due.contact
                -- A direct row without a lock is left of a caller that is gone.
                AND earlier.state BETWEEN 'sending' AND 'waiting' AND earlier.seq < due.seq)
           AND contact NOT IN (SELECT value FROM json_each(?4))
         ORDER BY next_at {order}, seq {order} LIMIT ?5"
    )
}

/// A delivery that is due, and its earlier attempts.
struct Due {
    seq: i64,
    next_at: i64,
    last_attempt_at: Option<Timestamp>,
    history: AttemptHistory,
}

impl Due {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let history = AttemptHistory {
            attempts: row.get("attempts")?,
            failing_since: delivery_row::timestamp(row, "failing_since")?,
            held_since: delivery_row::timestamp(row, "held_since")?,
            unknown_since: delivery_row::timestamp(row, "unknown_since")?,
        };
        let last_attempt_at = delivery_row::timestamp(row, "last_attempt_at")?;
        Ok(Self { seq: row.get("seq")?, next_at: row.get("next_at")?, last_attempt_at, history })
    }

    fn claim(self, transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<ClaimedDelivery> {
        let Self { seq, last_attempt_at, mut history, .. } = self;
        let failing_since = history.failing_since;
        let last_tried_at = last_attempt_at.unwrap_or(now);
        history.failing_since = failing_since.map(|since| retry::failing_since_while_tried(since, last_tried_at, now));
        let values = params![seq, now.as_millisecond(), history.failing_since.map(Timestamp::as_millisecond)];
        let delivery = transaction
            .prepare_cached(&format!(
                "UPDATE deliveries
                 SET state = 'sending', attempts = attempts + 1, last_attempt_at = ?2,
                     first_attempt_at = coalesce(first_attempt_at, ?2), failing_since = ?3,
                     -- The process may be killed before the outcome is known.
                     unknown_since = iif(idempotency_key IS NULL, NULL, coalesce(unknown_since, ?2))
                 WHERE seq = ?1
                 RETURNING {}",
                delivery_row::COLUMNS
            ))?
            .query_row(values, delivery_row::from_row)?;
        Ok(ClaimedDelivery { delivery, history })
    }
}

/// Makes deliveries due whose next attempt is later than the rules can say: a clock that was wrong has written that.
fn forget_incredible_waits(
    transaction: &Transaction<'_>,
    direction: Direction,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    let latest = retry::latest_credible_wait(now).as_millisecond();
    transaction
        .prepare_cached(
            "UPDATE deliveries INDEXED BY deliveries_due SET next_at = ?2, not_before = NULL
             WHERE state = 'waiting' AND direction = ?1 AND (failing_since IS NULL AND held_since IS NULL) IN (0, 1)
               AND next_at > ?3 AND next_at < ?4",
        )?
        .execute(params![direction.as_str(), now.as_millisecond(), latest, AFTER_ANOTHER_MS])
}

#[cfg(test)]
mod tests {
    use relay_core::delivery::{AttemptResult, Reason, ReasonCode};

    use super::*;
    use crate::test_store::{Folder, claim, deliver, enqueue, finish, retry_in_an_hour, store};

    #[tokio::test]
    async fn claim_takes_the_first_delivery_of_each_contact() {
        let Folder { store, _dir, .. } = store();
        for (webhook_id, email) in [("a1", "a@b.co"), ("a2", "a@b.co"), ("b1", "b@b.co"), ("a3", "a@b.co")] {
            enqueue(&store, webhook_id, email).await;
        }
        assert_eq!(claim(&store, ClaimOrder::NeverFailed).await, ["a1", "b1"]);
        assert!(claim(&store, ClaimOrder::NeverFailed).await.is_empty());
        finish(&store, "a1", AttemptResult::DeadLetter(Reason::without_status(ReasonCode::Internal))).await;
        assert_eq!(claim(&store, ClaimOrder::NeverFailed).await, ["a2"]);
        finish(&store, "a2", AttemptResult::Delivered).await;
        assert_eq!(claim(&store, ClaimOrder::NeverFailed).await, ["a3"]);
    }

    #[tokio::test]
    async fn deliveries_that_never_failed_are_claimed_first() {
        let Folder { store, clock, _dir } = store();
        for webhook_id in ["failed", "first", "second"] {
            enqueue(&store, webhook_id, &format!("{webhook_id}@b.co")).await;
            if webhook_id == "failed" {
                assert_eq!(claim(&store, ClaimOrder::Oldest).await, ["failed"]);
                finish(&store, "failed", retry_in_an_hour(&store, false)).await;
                clock.advance(1);
            }
        }
        let mut orders = Vec::new();
        for order in [ClaimOrder::Oldest, ClaimOrder::NeverFailed, ClaimOrder::NewestNeverFailed] {
            orders.push(claim(&store, order).await);
            store
                .write(|transaction| transaction.execute("UPDATE deliveries SET state = 'waiting'", []))
                .await
                .unwrap();
        }
        assert_eq!(orders[0], ["failed", "first", "second"]);
        assert_eq!(orders[1], ["first", "second", "failed"]);
        assert_eq!(orders[2], ["second", "first", "failed"]);
    }

    #[tokio::test]
    async fn wait_that_no_rule_can_have_written_is_forgotten() {
        let Folder { store, clock, _dir } = store();
        deliver(&store, "msg_1").await;
        clock.advance(24);
        enqueue(&store, "msg_2", "ada@example.com").await;
        assert_eq!(claim(&store, ClaimOrder::Oldest).await, ["msg_2"]);
        finish(&store, "msg_2", retry_in_an_hour(&store, true)).await;
        clock.advance(-24);
        assert_eq!(claim(&store, ClaimOrder::Oldest).await, ["msg_2"]);
    }
}
