//! Forgets what was delivered long ago. Each transaction deletes some of it, so that other writes go on.

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::delivery::Direction;
use rusqlite::{Transaction, params};

use crate::admin::queries;
use crate::store::{STEP_SIZE, SqliteStore};

/// How long a delivered delivery stays in the ledger, in milliseconds: longer than any duplicate can take.
const RETENTION_MS: i64 = 30 * 24 * 60 * 60 * 1000;

impl SqliteStore {
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
    use super::*;
    use crate::test_store::{Folder, deliver, insert_many, store};

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
    async fn old_deliveries_are_purged_with_their_failures_step_by_step() {
        let Folder { store, _dir, .. } = store();
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
}
