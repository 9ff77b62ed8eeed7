//! What is held is tried at once when a person has mended what it waits for.

use std::sync::atomic::Ordering;

use relay::ports::queue::StoreFault;
use relay_core::delivery::DeliveryId;
use rusqlite::params;

use crate::store::SqliteStore;

impl SqliteStore {
    /// How often what is held was freed.
    #[must_use]
    pub fn mends(&self) -> u64 {
        self.mends.load(Ordering::SeqCst)
    }

    /// Lets everything that waits for a person be tried now.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn free_held(&self) -> Result<usize, StoreFault> {
        self.mends.fetch_add(1, Ordering::SeqCst);
        self.free(None).await
    }

    /// Lets one that was under way meanwhile, and is held, be tried now as well.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn free_one_held(&self, id: &DeliveryId) -> Result<(), StoreFault> {
        self.free(Some(id.as_str().to_owned())).await.map(drop)
    }

    /// Lets one that is held be tried now, or all of them.
    async fn free(&self, id: Option<String>) -> Result<usize, StoreFault> {
        let now = self.now().as_millisecond();
        let freed = self
            .transact(move |transaction| {
                transaction.execute(
                    "UPDATE deliveries SET next_at = ?1
                     WHERE settled_at IS NULL AND state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1
                       AND (?2 IS NULL OR id = ?2)",
                    params![now, id],
                )
            })
            .await?;
        self.arrivals.notify_waiters();
        Ok(freed)
    }
}
