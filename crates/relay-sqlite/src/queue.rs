//! Storing what comes from Loops.

use std::time::Duration;

use relay::ports::queue::{Queue, StoreFault, Stored};
use relay_core::delivery::{BodyHash, Delivery, Reason};

use crate::delivery_row;
use crate::store::SqliteStore;

/// How long Loops is let wait: it gives up after fifteen seconds, and then sends again.
const PUT_WITHIN: Duration = Duration::from_secs(10);

impl Queue for SqliteStore {
    async fn put(&self, delivery: &Delivery) -> Result<Stored, StoreFault> {
        let (delivery, hash) = (delivery.clone(), self.contact_hash(delivery));
        let stored = self
            .transact_soon(PUT_WITHIN, move |transaction| {
                if delivery_row::insert(transaction, &delivery, hash.as_deref(), "waiting", delivery.received_at)? {
                    return Ok(Stored::New);
                }
                let known: String = transaction
                    .prepare_cached("SELECT body_hash FROM deliveries WHERE id = ?1")?
                    .query_row([delivery.id.as_str()], |row| row.get(0))?;
                let same = known == BodyHash::of(&delivery.body).as_str();
                Ok(if same { Stored::Repeat } else { Stored::Conflict })
            })
            .await?;
        self.arrivals.notify_waiters();
        Ok(stored)
    }

    async fn put_dead(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreFault> {
        let (delivery, hash, now) = (delivery.clone(), self.contact_hash(delivery), self.now());
        self.transact_soon(PUT_WITHIN, move |transaction| {
            delivery_row::insert_dead(transaction, &delivery, hash.as_deref(), reason, now).map(drop)
        })
        .await
    }
}
