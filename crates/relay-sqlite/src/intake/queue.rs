//! Enqueuing and dead-lettering a delivery.

use std::time::Duration;

use relay::ports::queue::{Enqueued, Queue, StoreError};
use relay_core::delivery::{Delivery, Reason};
use rusqlite::Transaction;

use crate::durability::change::WriteOptions;
use crate::store::SqliteStore;

/// Maximum wait for other writes. Loops gives up after fifteen seconds, and sends the webhook again.
const ENQUEUE_TIMEOUT: Duration = Duration::from_secs(10);

impl Queue for SqliteStore {
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        let (row, direction) = (self.new_row(delivery), delivery.kind.direction());
        let options = WriteOptions {
            timeout: Some(ENQUEUE_TIMEOUT),
            checks_files: true,
            is_one_statement: true,
            ..WriteOptions::default()
        };
        let insert = move |transaction: &Transaction<'_>| {
            if row.insert(transaction, "waiting", row.delivery.received_at)? {
                return Ok(Enqueued::New);
            }
            let stored_hash: String = transaction
                .prepare_cached("SELECT body_hash FROM deliveries WHERE id = ?1")?
                .query_row([row.delivery.id.as_str()], |row| row.get(0))?;
            Ok(if stored_hash == row.body_hash.as_str() { Enqueued::Duplicate } else { Enqueued::Conflict })
        };
        let enqueued = self.writer.write(options, insert).await?;
        self.signal_work(direction);
        Ok(enqueued)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        let (row, now) = (self.new_row(delivery), self.clock.now());
        self.write_within(ENQUEUE_TIMEOUT, move |transaction| row.insert_dead(transaction, reason, now).map(drop)).await
    }
}
