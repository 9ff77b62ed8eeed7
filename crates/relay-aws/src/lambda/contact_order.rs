//! The order of deliveries to one contact beyond that of the FIFO queue. That of the queue to Loops is in
//! `ledger::contacts`.

use std::future::Future;

use relay::ports::queue::StoreError;
use relay_core::delivery::Delivery;

/// When a worker may send a delivery of a contact.
#[derive(Debug)]
pub enum SendOrder {
    /// Now: nothing of the contact has to go before it.
    Now,
    /// Now, because it is the contact's deferred delivery, which goes before all others.
    NowAsDeferred,
    /// After the caller that holds the contact lock.
    AfterLock,
    /// After this delivery, which its caller could not send: it goes before all others of the contact.
    AfterDeferred(Box<Delivery>),
}

/// Order of the deliveries of a contact.
pub trait ContactOrder: Send + Sync {
    /// Returns when a delivery may be sent.
    ///
    /// # Errors
    /// When the order cannot be read.
    fn send_order(&self, delivery: &Delivery) -> impl Future<Output = Result<SendOrder, StoreError>> + Send;

    /// Records that a delivery has ended, delivered or not.
    ///
    /// # Errors
    /// When the order cannot be written.
    fn record_ended(&self, delivery: &Delivery, delivered: bool)
    -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Order of the queue to Clay: the FIFO queue's own is enough, because nothing is sent past it.
#[derive(Debug, Clone, Copy)]
pub struct QueueOrderOnly;

impl ContactOrder for QueueOrderOnly {
    async fn send_order(&self, _: &Delivery) -> Result<SendOrder, StoreError> {
        Ok(SendOrder::Now)
    }

    async fn record_ended(&self, _: &Delivery, _: bool) -> Result<(), StoreError> {
        Ok(())
    }
}
