//! The order of deliveries to one contact beyond that of the FIFO queue.

use std::future::Future;

use relay::ports::queue::StoreError;
use relay_core::delivery::Delivery;

/// What a worker must respect before it sends a contact's delivery.
#[derive(Debug)]
pub enum Blocker {
    /// Nothing.
    None,
    /// Nothing: it is the deferred delivery itself.
    Own,
    /// A caller holds the contact lock.
    Locked,
    /// This delivery goes first.
    Deferred(Box<Delivery>),
}

/// Order of the deliveries of a contact.
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
