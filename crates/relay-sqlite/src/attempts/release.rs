//! Makes deliveries due whose cause of failure is gone. Each transaction does some of them, so that other writes go on.

use std::sync::atomic::Ordering;

use relay::ports::queue::StoreError;
use relay_core::delivery::{DeliveryId, Direction};
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::delivery_row::AFTER_ANOTHER_MS;
use crate::store::{STEP_SIZE, SqliteStore};

/// A position in the order in which failed deliveries are due.
#[derive(Debug, Clone, Copy)]
pub struct ReleasePosition {
    next_at: i64,
    seq: i64,
}

impl SqliteStore {
    /// Makes deliveries of a direction due that have failed, now that the destination is back: some, from a position on or from
    /// the first. Those that must not be retried early stay. Returns the position that it has come to, if there may be more.
    pub async fn release_on_recovery(
        &self,
        direction: Direction,
        after: Option<ReleasePosition>,
    ) -> Result<Option<ReleasePosition>, StoreError> {
        let now = self.clock.now().as_millisecond();
        let after = after.unwrap_or(ReleasePosition { next_at: now, seq: i64::MAX });
        self.write(move |transaction| release_failed(transaction, direction, now, after, false)).await
    }

    /// Returns how often all held deliveries were released.
    pub fn release_epoch(&self) -> u64 {
        self.release_epoch.load(Ordering::SeqCst)
    }

    /// Makes all held deliveries due, now that an operator has fixed their cause.
    pub async fn release_all_held(&self) -> Result<(), StoreError> {
        self.release_epoch.fetch_add(1, Ordering::SeqCst);
        let now = self.clock.now().as_millisecond();
        loop {
            let released = self
                .write(move |transaction| {
                    transaction
                        .prepare_cached(
                            "UPDATE deliveries SET next_at = ?1 WHERE seq IN
                               (SELECT seq FROM deliveries INDEXED BY deliveries_held
                                WHERE state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1 LIMIT ?2)",
                        )?
                        .execute(params![now, STEP_SIZE])
                })
                .await?;
            Direction::ALL.into_iter().for_each(|direction| self.signal_work(direction));
            if released < usize::from(STEP_SIZE) {
                return Ok(());
            }
        }
    }

    /// Makes a held delivery due that was being sent during [`release_all_held`](Self::release_all_held).
    pub async fn release_held(&self, id: &DeliveryId) -> Result<(), StoreError> {
        let (now, id) = (self.clock.now().as_millisecond(), id.as_str().to_owned());
        self.write(move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE deliveries SET next_at = ?1
                     WHERE id = ?2 AND state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1",
                )?
                .execute(params![now, id])
                .map(drop)
        })
        .await
    }
}

/// Makes the next deliveries of the direction due if this one has failed or was held before: that it was delivered shows that
/// others may be.
pub(crate) fn release_others(transaction: &Transaction<'_>, id: &str, now: i64) -> rusqlite::Result<()> {
    let direction: Option<String> = transaction
        .prepare_cached(
            "SELECT direction FROM deliveries WHERE id = ?1 AND (failing_since IS NOT NULL OR held_since IS NOT NULL)",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(direction) = direction.and_then(|direction| direction.parse().ok()) else { return Ok(()) };
    let after = ReleasePosition { next_at: now, seq: i64::MAX };
    release_failed(transaction, direction, now, after, true).map(drop)
}

/// Makes the next deliveries of a direction due that have failed, or are held as well, except those that must not be retried
/// early. Returns the position that it has come to, if there may be more.
fn release_failed(
    transaction: &Transaction<'_>,
    direction: Direction,
    now: i64,
    after: ReleasePosition,
    includes_held: bool,
) -> rusqlite::Result<Option<ReleasePosition>> {
    let mut statement = transaction.prepare_cached(
        "SELECT seq, next_at, coalesce(not_before, 0) <= ?2 AND (?3 OR failing_since IS NOT NULL) AS is_released
         FROM deliveries INDEXED BY deliveries_due
         WHERE state = 'waiting' AND direction = ?1 AND (failing_since IS NULL AND held_since IS NULL) = 0
           AND (next_at, seq) > (?4, ?5) AND next_at < ?6
         ORDER BY next_at, seq LIMIT ?7",
    )?;
    let ReleasePosition { next_at, seq } = after;
    let parameters = params![direction.as_str(), now, includes_held, next_at, seq, AFTER_ANOTHER_MS, STEP_SIZE];
    let found = statement.query_map(parameters, |row| {
        let position = ReleasePosition { next_at: row.get("next_at")?, seq: row.get("seq")? };
        Ok((position, row.get::<_, bool>("is_released")?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut release = transaction.prepare_cached("UPDATE deliveries SET next_at = ?2 WHERE seq = ?1")?;
    for (position, _) in found.iter().filter(|(_, is_released)| *is_released) {
        release.execute(params![position.seq, now])?;
    }
    let is_full = found.len() == usize::from(STEP_SIZE);
    Ok(found.last().filter(|_| is_full).map(|(position, _)| *position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::claim::ClaimOrder;
    use crate::test_store::{Folder, insert_many, store};

    #[tokio::test]
    async fn recovery_makes_any_number_due_but_those_told_to_wait() {
        let Folder { store, _dir, .. } = store();
        insert_many(&store, "'waiting', NULL, NULL").await;
        let sql = "UPDATE deliveries SET failing_since = 1, not_before = iif(seq % 2, next_at, NULL)";
        store.write(|transaction| transaction.execute(sql, [])).await.unwrap();
        let mut position = None;
        loop {
            position = store.release_on_recovery(Direction::LoopsToClay, position).await.unwrap();
            if position.is_none() {
                break;
            }
        }
        let due = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, 1200).await.unwrap();
        assert_eq!(due.len(), 600);
    }

    #[tokio::test]
    async fn all_held_deliveries_are_released_step_by_step() {
        let Folder { store, _dir, .. } = store();
        insert_many(&store, "'waiting', NULL, iif(n = 7, NULL, 1)").await;
        store.release_all_held().await.unwrap();
        let sql = "SELECT count(*) FROM deliveries WHERE next_at <= 1800000000000";
        let due: u32 = store.read(|connection| connection.query_row(sql, [], |row| row.get(0))).await.unwrap();
        assert_eq!(due, 1199);
    }

    #[tokio::test]
    async fn recovery_leaves_what_is_held_for_an_operator() {
        let Folder { store, _dir, .. } = store();
        insert_many(&store, "'waiting', NULL, 1").await;
        store.release_on_recovery(Direction::LoopsToClay, None).await.unwrap();
        assert!(store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, 1).await.unwrap().is_empty());
    }
}
