//! Held deliveries are tried at once when an operator has fixed their cause.

use std::sync::atomic::Ordering;

use relay::ports::queue::StoreError;
use relay_core::delivery::DeliveryId;
use rusqlite::params;

use crate::store::SqliteStore;

impl SqliteStore {
    /// Returns how often all held deliveries were released.
    pub fn release_epoch(&self) -> u64 {
        self.release_epoch.load(Ordering::SeqCst)
    }

    /// Makes all held deliveries due. Returns their number.
    pub async fn release_all_held(&self) -> Result<usize, StoreError> {
        self.release_epoch.fetch_add(1, Ordering::SeqCst);
        self.release(None).await
    }

    /// Makes a delivery due that was being sent during [`release_all_held`](Self::release_all_held), if it is held.
    pub async fn release_held(&self, id: &DeliveryId) -> Result<(), StoreError> {
        self.release(Some(id.as_str().to_owned())).await.map(drop)
    }

    async fn release(&self, id: Option<String>) -> Result<usize, StoreError> {
        let now = self.clock.now().as_millisecond();
        let released = self
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE deliveries SET next_at = ?1
                     WHERE settled_at IS NULL AND state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1
                       AND (?2 IS NULL OR id = ?2)",
                    params![now, id],
                )
            })
            .await?;
        self.work_available.notify_waiters();
        Ok(released)
    }
}
