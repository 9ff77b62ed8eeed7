//! The order of deliveries to one contact beyond that of the FIFO queue.

use std::future::Future;

use relay::ports::queue::StoreError;
use relay_core::delivery::Delivery;

use crate::ledger::contact_lock::{Blocker, ContactFastPath};

/// What a worker must respect before it sends a delivery, and record after the delivery has ended.
pub trait ContactOrder: Send + Sync {
    /// Returns what blocks a delivery.
    ///
    /// # Errors
    /// When the order cannot be read.
    fn blocker(&self, delivery: &Delivery) -> impl Future<Output = Result<Blocker, StoreError>> + Send;

    /// Records that a delivery has ended, delivered or not.
    ///
    /// # Errors
    /// When the order cannot be written.
    fn finish(&self, delivery: &Delivery, delivered: bool) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Order of the queue to Clay: the FIFO queue's own is enough, because nothing is sent past it.
#[derive(Debug, Clone, Copy)]
pub struct QueueOrder;

impl ContactOrder for QueueOrder {
    async fn blocker(&self, _: &Delivery) -> Result<Blocker, StoreError> {
        Ok(Blocker::None)
    }

    async fn finish(&self, _: &Delivery, _: bool) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Order of the queue to Loops: a caller may hold the contact's lock, and a deferred delivery goes first.
impl ContactOrder for ContactFastPath {
    async fn blocker(&self, delivery: &Delivery) -> Result<Blocker, StoreError> {
        self.blocker(delivery).await
    }

    async fn finish(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreError> {
        self.finish(delivery, delivered).await
    }
}
