//! The upkeep of the store: what is held is made due, and what was delivered long ago is forgotten, some deliveries in each
//! transaction.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::delivery::{DeliveryId, Direction};
use rusqlite::{Transaction, params};

use crate::admin::queries;
use crate::store::SqliteStore;

/// How long a delivered delivery stays in the ledger, in milliseconds: longer than any duplicate can take.
const RETENTION_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Maximum number of deliveries that one transaction releases or deletes: other writes wait for it.
const STEP_SIZE: u16 = 500;

impl SqliteStore {
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
    /// [`release_all_held`](Self::release_all_held). Each transaction does some of them, so that other writes go on.
    pub async fn release_held(&self, id: Option<&DeliveryId>) -> Result<(), StoreError> {
        let (now, id) = (self.clock.now().as_millisecond(), id.map(|id| id.as_str().to_owned()));
        loop {
            let id = id.clone();
            let released = self
                .write(move |transaction| match id {
                    Some(id) => transaction
                        .prepare_cached(
                            "UPDATE deliveries SET next_at = ?1
                             WHERE id = ?2 AND state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1",
                        )?
                        .execute(params![now, id]),
                    None => transaction
                        .prepare_cached(
                            "UPDATE deliveries SET next_at = ?1 WHERE seq IN
                               (SELECT seq FROM deliveries INDEXED BY deliveries_held
                                WHERE state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1 LIMIT ?2)",
                        )?
                        .execute(params![now, STEP_SIZE]),
                })
                .await?;
            self.work_available.notify_waiters();
            if released < usize::from(STEP_SIZE) {
                return Ok(());
            }
        }
    }

    /// Deletes the records of deliveries that ended longer ago than any duplicate can come: by the clock, which may be wrong,
    /// and by what ended last. Each transaction deletes some of them, so that other writes go on.
    pub async fn purge_delivered(&self) -> Result<(), StoreError> {
        let now = self.clock.now().as_millisecond();
        let newest = self.read(queries::last_delivered_at).await?;
        let cutoff = newest.map_or(now, Timestamp::as_millisecond).min(now).saturating_sub(RETENTION_MS);
        while self.write(move |transaction| purge(transaction, cutoff)).await? == usize::from(STEP_SIZE) {}
        Ok(())
    }
}

/// Deletes some deliveries that were delivered before this time, and what is left of callers that are gone since. Returns how
/// many.
fn purge(transaction: &Transaction<'_>, cutoff: i64) -> rusqlite::Result<usize> {
    let found: Vec<(i64, String)> = transaction
        .prepare_cached(
            "SELECT seq, id FROM
               (SELECT seq, id FROM deliveries
                WHERE state = 'delivered' AND settled_at IS NOT NULL AND settled_at < ?1 LIMIT ?2)
             UNION ALL
             SELECT seq, id FROM
               (SELECT seq, id FROM deliveries
                WHERE state = 'direct' AND direction = ?3 AND received_at < ?1 LIMIT ?2)
             LIMIT ?2",
        )?
        .query_map(params![cutoff, STEP_SIZE, Direction::ClayToLoops.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (seq, id) in &found {
        transaction.prepare_cached("DELETE FROM failures WHERE delivery_id = ?1")?.execute([id])?;
        transaction.prepare_cached("DELETE FROM deliveries WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jiff::SignedDuration;
    use relay::ports::clock::Clock;
    use relay::ports::queue::Queue as _;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{AttemptResult, Delivery, DeliveryKind};

    use super::*;
    use crate::claim::ClaimOrder;
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

    async fn deliver(store: &SqliteStore, webhook_id: &str) {
        let delivery = Delivery {
            id: DeliveryId::for_webhook("a", webhook_id),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: store.clock.now(),
            kind: DeliveryKind::ClayRow { route: "a".to_owned(), webhook_id: webhook_id.to_owned() },
            body: "{}".into(),
        };
        store.enqueue(&delivery).await.unwrap();
        let claimed = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest).await.unwrap().unwrap();
        store.finish_attempt(&claimed.delivery.id, AttemptResult::Delivered.into()).await.unwrap();
    }

    async fn count(store: &SqliteStore) -> u32 {
        store
            .read(|connection| connection.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0)))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn clock_that_is_ahead_for_a_moment_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SetClock(Mutex::new(Timestamp::constant(1_800_000_000, 0))));
        let store = SqliteStore::new(open(folder.path(), clock.now()).unwrap(), Arc::<SetClock>::clone(&clock));
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

    /// Inserts more deliveries than one transaction changes, with these values of `state`, `settled_at` and `held_since`.
    async fn insert_many(store: &SqliteStore, values: &'static str) {
        let sql = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1200)
             INSERT INTO deliveries (id, direction, contact, kind, body_hash, received_at, next_at, state, settled_at,
               held_since)
             SELECT n, 'loops-to-clay', n, 'row', 'h', 1, 9000000000000, {values} FROM numbers"
        );
        store.write(move |transaction| transaction.execute(&sql, [])).await.unwrap();
    }

    fn new_store(folder: &tempfile::TempDir) -> SqliteStore {
        let clock = Arc::new(SetClock(Mutex::new(Timestamp::constant(1_800_000_000, 0))));
        SqliteStore::new(open(folder.path(), clock.now()).unwrap(), clock)
    }

    #[tokio::test]
    async fn old_deliveries_are_purged_with_their_failures_step_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let store = new_store(&folder);
        insert_many(&store, "iif(n = 7, 'dead', 'delivered'), 1, NULL").await;
        let sql = "INSERT INTO failures SELECT id, 'timed_out', 0, 1, 1 FROM deliveries";
        store.write(|transaction| transaction.execute(sql, [])).await.unwrap();
        deliver(&store, "msg_1").await;
        store.purge_delivered().await.unwrap();
        assert_eq!(count(&store).await, 2, "a dead letter stays, and what was delivered today");
        let sql = "SELECT group_concat(delivery_id) FROM failures";
        let left: String = store.read(|connection| connection.query_row(sql, [], |row| row.get(0))).await.unwrap();
        assert_eq!(left, "7");
    }

    #[tokio::test]
    async fn all_held_deliveries_are_released_step_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let store = new_store(&folder);
        insert_many(&store, "'waiting', NULL, iif(n = 7, NULL, 1)").await;
        store.release_all_held().await.unwrap();
        let sql = "SELECT count(*) FROM deliveries WHERE next_at <= 1800000000000";
        let due: u32 = store.read(|connection| connection.query_row(sql, [], |row| row.get(0))).await.unwrap();
        assert_eq!(due, 1199);
    }
}
