//! Enqueuing and dead-lettering a delivery.

use std::time::Duration;

use relay::ports::queue::{Enqueued, Queue, StoreError};
use relay_core::delivery::{BodyHash, Delivery, Reason};

use crate::delivery_row;
use crate::store::SqliteStore;

/// Maximum wait for other writes. Loops gives up after fifteen seconds, and sends the webhook again.
const ENQUEUE_TIMEOUT: Duration = Duration::from_secs(10);

impl Queue for SqliteStore {
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        let (delivery, contact_hash) = (delivery.clone(), self.contact_hash(delivery));
        let enqueued = self
            .write_within(ENQUEUE_TIMEOUT, move |transaction| {
                let (contact_hash, due) = (contact_hash.as_deref(), delivery.received_at);
                if delivery_row::insert(transaction, &delivery, contact_hash, "waiting", due)? {
                    return Ok(Enqueued::New);
                }
                let stored_hash: String = transaction
                    .prepare_cached("SELECT body_hash FROM deliveries WHERE id = ?1")?
                    .query_row([delivery.id.as_str()], |row| row.get(0))?;
                let is_same_body = stored_hash == BodyHash::compute(&delivery.body).as_str();
                Ok(if is_same_body { Enqueued::Duplicate } else { Enqueued::Conflict })
            })
            .await?;
        self.work_available.notify_waiters();
        Ok(enqueued)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        let (delivery, contact_hash, now) = (delivery.clone(), self.contact_hash(delivery), self.clock.now());
        self.write_within(ENQUEUE_TIMEOUT, move |transaction| {
            delivery_row::insert_dead(transaction, &delivery, contact_hash.as_deref(), reason, now).map(drop)
        })
        .await
    }
}
