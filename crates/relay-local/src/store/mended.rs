//! What is held is tried at once when a person has mended what it waits for.

use std::sync::atomic::Ordering;

use relay::store::StoreFault;
use relay_core::delivery::DeliveryId;
use rusqlite::params;

use super::SqliteStore;

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
        let now = self.now().as_millisecond();
        let freed = self
            .transact(move |transaction| {
                transaction.execute(
                    "UPDATE deliveries SET next_at = ?1
                     WHERE settled_at IS NULL AND state = 'waiting' AND held_since IS NOT NULL AND next_at > ?1",
                    [now],
                )
            })
            .await?;
        self.arrivals.notify_waiters();
        Ok(freed)
    }

    /// Lets one that was under way meanwhile, and is held, be tried now as well.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn free_one_held(&self, id: &DeliveryId) -> Result<(), StoreFault> {
        let (id, now) = (id.as_str().to_owned(), self.now().as_millisecond());
        self.transact(move |transaction| {
            transaction.execute(
                "UPDATE deliveries SET next_at = ?2
                 WHERE id = ?1 AND settled_at IS NULL AND state = 'waiting' AND held_since IS NOT NULL",
                params![id, now],
            )
        })
        .await?;
        self.arrivals.notify_waiters();
        Ok(())
    }
}
