//! The worker's side of the queue: it claims the next delivery that is due, records the result of the attempt, and makes
//! deliveries due whose cause of failure is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, Direction, FinishedAttempt};
use relay_core::policy::retry;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::admin::queries::paused_since;
use crate::delivery_row::AFTER_ANOTHER_MS;
use crate::store::SqliteStore;
use crate::{delivery_row, failure_counts};

/// How long a delivered delivery stays in the ledger, in milliseconds: longer than any duplicate can take.
const RETENTION_MS: i64 = 30 * 24 * 60 * 60 * 1000;

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

/// How many deliveries that have failed are made due by one that was delivered, or in one transaction.
const RELEASE_STEP: u32 = 100;

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
        self.write(move |transaction| {
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
        })
        .await
    }

    /// Records the result of an attempt. If that fails, the worker must record it before it sends anything else.
    pub async fn finish_attempt(&self, id: &DeliveryId, finished: FinishedAttempt) -> Result<(), StoreError> {
        let (id, now) = (id.as_str().to_owned(), self.clock.now().as_millisecond());
        self.write(move |transaction| finish_attempt(transaction, &id, finished, now)).await
    }

    /// Makes all deliveries of a direction due that have failed, now that the destination is back. Those that must not be
    /// retried early stay.
    pub async fn release_on_recovery(&self, direction: Direction) -> Result<(), StoreError> {
        let now = self.clock.now().as_millisecond();
        let mut step = Some((now, i64::MAX));
        while let Some(after) = step {
            let released = self.write(move |transaction| release_failed(transaction, direction, now, after));
            step = released.await?;
        }
        Ok(())
    }

    /// Returns how often all held deliveries were released.
    pub fn release_epoch(&self) -> u64 {
        self.release_epoch.load(Ordering::SeqCst)
    }

    /// Makes all held deliveries due, now that an operator has fixed their cause.
    pub async fn release_all_held(&self) -> Result<(), StoreError> {
        self.release_epoch.fetch_add(1, Ordering::SeqCst);
        self.release_held(None).await
    }

    /// Makes held deliveries due: all, or only the one that was being sent during
    /// [`release_all_held`](Self::release_all_held).
    pub async fn release_held(&self, id: Option<&DeliveryId>) -> Result<(), StoreError> {
        let (now, id) = (self.clock.now().as_millisecond(), id.map(|id| id.as_str().to_owned()));
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE deliveries SET next_at = ?1
                 WHERE settled_at IS NULL AND state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1
                   AND (?2 IS NULL OR id = ?2)",
                params![now, id],
            )
        })
        .await?;
        Direction::ALL.into_iter().for_each(|direction| self.signal_work(direction));
        Ok(())
    }

    /// Deletes the records of deliveries that ended longer ago than any duplicate can come: by the clock, which may be wrong,
    /// and by what ended last.
    pub async fn purge_delivered(&self) -> Result<(), StoreError> {
        let now = self.clock.now().as_millisecond();
        self.write(move |transaction| {
            let newest: Option<i64> = transaction.query_row(
                "SELECT max(settled_at) FROM deliveries WHERE settled_at IS NOT NULL AND state = 'delivered'",
                [],
                |row| row.get(0),
            )?;
            let cutoff = newest.unwrap_or(now).min(now).saturating_sub(RETENTION_MS);
            transaction.execute(
                "DELETE FROM deliveries WHERE settled_at IS NOT NULL AND state = 'delivered' AND settled_at < ?1",
                [cutoff],
            )?;
            // What is left of callers that are gone.
            transaction.execute(
                "DELETE FROM deliveries WHERE settled_at IS NULL AND state = 'direct' AND received_at < ?1",
                [cutoff],
            )?;
            let orphans = "DELETE FROM failures WHERE delivery_id NOT IN (SELECT id FROM deliveries)";
            transaction.execute(orphans, []).map(drop)
        })
        .await
    }
}

/// Selects the due deliveries that have never failed, or the others.
fn select_due(newest_first: bool) -> String {
    let order = if newest_first { "DESC" } else { "ASC" };
    format!(
        "SELECT seq, next_at, attempts, failing_since, held_since, last_attempt_at, unknown_since
         FROM deliveries AS due
         WHERE state = 'waiting' AND direction = ?1 AND (failing_since IS NULL AND held_since IS NULL) = ?2
           AND next_at <= ?3
           AND NOT EXISTS
             (SELECT 1 FROM deliveries AS earlier
              WHERE earlier.direction = ?1 AND earlier.contact = due.contact
                -- A direct row without a lock is left of a caller that is gone.
                AND earlier.state IN ('waiting', 'sending') AND earlier.seq < due.seq)
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
                     unknown_since = iif(kind = 'event', coalesce(unknown_since, ?2), NULL)
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
            "UPDATE deliveries SET next_at = ?2, not_before = NULL
             WHERE state = 'waiting' AND direction = ?1 AND (failing_since IS NULL AND held_since IS NULL) IN (0, 1)
               AND next_at > ?3 AND next_at < ?4",
        )?
        .execute(params![direction.as_str(), now.as_millisecond(), latest, AFTER_ANOTHER_MS])
}

/// Makes the next deliveries of a direction due that have failed or are held, except those that must not be retried early.
/// It begins after a position in their order, `(next_at, seq)`, and returns the one that it has come to, if there may be more.
fn release_failed(
    transaction: &Transaction<'_>,
    direction: Direction,
    now: i64,
    after: (i64, i64),
) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT seq, next_at, coalesce(not_before, 0) <= ?2 AS may_be_early FROM deliveries
         WHERE state = 'waiting' AND direction = ?1 AND (failing_since IS NULL AND held_since IS NULL) = 0
           AND (next_at, seq) > (?3, ?4) AND next_at < ?5
         ORDER BY next_at, seq LIMIT ?6",
    )?;
    let parameters = params![direction.as_str(), now, after.0, after.1, AFTER_ANOTHER_MS, RELEASE_STEP];
    let found = statement.query_map(parameters, |row| {
        Ok((row.get::<_, i64>("next_at")?, row.get::<_, i64>("seq")?, row.get::<_, bool>("may_be_early")?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut release = transaction.prepare_cached("UPDATE deliveries SET next_at = ?2 WHERE seq = ?1")?;
    for (_, seq, _) in found.iter().filter(|(.., may_be_early)| *may_be_early) {
        release.execute(params![seq, now])?;
    }
    let is_full = found.len() == RELEASE_STEP as usize;
    Ok(found.last().filter(|_| is_full).map(|(next_at, seq, _)| (*next_at, *seq)))
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

/// Makes the next deliveries of the direction due if this one has failed or was held before: that it was delivered shows that
/// others may be.
fn release_others(transaction: &Transaction<'_>, id: &str, now: i64) -> rusqlite::Result<()> {
    let direction: Option<String> = transaction
        .prepare_cached(
            "SELECT direction FROM deliveries WHERE id = ?1 AND (failing_since IS NOT NULL OR held_since IS NOT NULL)",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(direction) = direction.and_then(|direction| direction.parse().ok()) else { return Ok(()) };
    release_failed(transaction, direction, now, (now, i64::MAX)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::SignedDuration;
    use relay::ports::clock::Clock;
    use relay::ports::queue::Queue as _;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{DeliveryKind, Reason, ReasonCode};

    use super::*;
    use crate::schema::open;

    /// A clock that is set.
    #[derive(Debug)]
    struct SetClock(Mutex<Timestamp>);

    impl SetClock {
        fn advance(&self, hours: i64) {
            *self.0.lock().unwrap() += SignedDuration::from_hours(hours);
        }
    }

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn random(&self) -> f64 {
            0.5
        }

        fn new_id(&self) -> String {
            "1".to_owned()
        }
    }

    struct Folder {
        store: SqliteStore,
        clock: Arc<SetClock>,
        _dir: tempfile::TempDir,
    }

    fn store() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SetClock(Mutex::new(Timestamp::constant(1_800_000_000, 0))));
        let store = SqliteStore::new(open(dir.path(), clock.now()).unwrap(), Arc::<SetClock>::clone(&clock));
        Folder { store, clock, _dir: dir }
    }

    async fn enqueue(store: &SqliteStore, webhook_id: &str, email: &str) {
        let delivery = Delivery {
            id: DeliveryId::for_webhook("a", webhook_id),
            contact: ContactKey::from_email(email),
            received_at: store.clock.now(),
            kind: DeliveryKind::ClayRow { route: "a".to_owned(), webhook_id: webhook_id.to_owned() },
            body: "{}".into(),
        };
        store.enqueue(&delivery).await.unwrap();
    }

    /// Claims eight deliveries at most, and returns the ids of their webhooks.
    async fn claim(store: &SqliteStore, order: ClaimOrder) -> Vec<String> {
        let claimed = store.claim(Direction::LoopsToClay, order, 8).await.unwrap();
        let webhook_id = |claimed: ClaimedDelivery| match claimed.delivery.kind {
            DeliveryKind::ClayRow { webhook_id, .. } => webhook_id,
            DeliveryKind::LoopsContact | DeliveryKind::LoopsEvent { .. } => panic!("no row"),
        };
        claimed.into_iter().map(webhook_id).collect()
    }

    async fn finish(store: &SqliteStore, webhook_id: &str, result: AttemptResult) {
        store.finish_attempt(&DeliveryId::for_webhook("a", webhook_id), result.into()).await.unwrap();
    }

    async fn deliver(store: &SqliteStore, webhook_id: &str) {
        enqueue(store, webhook_id, "ada@example.com").await;
        assert_eq!(claim(store, ClaimOrder::Oldest).await, [webhook_id]);
        finish(store, webhook_id, AttemptResult::Delivered).await;
    }

    fn retry_in_an_hour(store: &SqliteStore, no_early_retry: bool) -> AttemptResult {
        let at = store.clock.now() + SignedDuration::from_hours(1);
        AttemptResult::RetryAt { at, reason: Reason::without_status(ReasonCode::TimedOut), no_early_retry }
    }

    async fn count(store: &SqliteStore) -> u32 {
        store
            .read(|connection| connection.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0)))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn clock_that_is_ahead_for_a_moment_forgets_nothing() {
        let Folder { store, clock, _dir } = store();
        deliver(&store, "msg_1").await;
        clock.advance(31 * 24);
        store.purge_delivered().await.unwrap();
        assert_eq!(count(&store).await, 1);
        clock.advance(-31 * 24);
        store.purge_delivered().await.unwrap();
        assert_eq!(count(&store).await, 1);
        // Time has really passed.
        clock.advance(31 * 24);
        deliver(&store, "msg_2").await;
        store.purge_delivered().await.unwrap();
        assert_eq!(count(&store).await, 1);
    }

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
    async fn recovery_makes_any_number_due_but_those_told_to_wait() {
        let Folder { store, _dir, .. } = store();
        let count = RELEASE_STEP * 2 + 1;
        for number in 0..count {
            let webhook_id = format!("msg_{number}");
            enqueue(&store, &webhook_id, &format!("{number}@b.co")).await;
            assert_eq!(claim(&store, ClaimOrder::Oldest).await, [webhook_id.as_str()]);
            finish(&store, &webhook_id, retry_in_an_hour(&store, number % 2 == 0)).await;
        }
        assert!(claim(&store, ClaimOrder::Oldest).await.is_empty());
        store.release_on_recovery(Direction::LoopsToClay).await.unwrap();
        let due = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, count as usize).await.unwrap();
        assert_eq!(due.len(), RELEASE_STEP as usize);
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
