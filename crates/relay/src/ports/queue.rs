//! The port to the queues, in which deliveries wait for a worker.

use std::error::Error;
use std::future::Future;

use relay_core::delivery::{Delivery, Reason, ReasonCode};

/// The store cannot do what it was asked to do now. It may be able to later. The text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable: {0}")]
pub struct StoreError(#[source] Box<dyn Error + Send + Sync>);

impl StoreError {
    /// An error with this cause, which must hold no data of a delivery.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Result of [`Queue::enqueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// The delivery is stored.
    New,
    /// The delivery was stored before; it is still one delivery.
    Duplicate,
    /// Another body is stored under the same id and stays. The new one is not stored.
    Conflict,
}

/// A queue and its dead-letter queue.
///
/// Adapters promise: a stored delivery is delivered or dead-lettered, deliveries of one contact are sent in the order in
/// which they arrived, and what is recorded as delivered is not sent again.
pub trait Queue: Send + Sync {
    /// Stores a delivery. After it has returned, only the loss of the store itself can lose the delivery. A store that has no
    /// ledger at hand returns [`Enqueued::New`] for all, and the worker finds duplicates and conflicts.
    fn enqueue(&self, delivery: &Delivery) -> impl Future<Output = Result<Enqueued, StoreError>> + Send;

    /// Stores a delivery. If another body is stored under its id, the new one becomes a dead letter.
    fn enqueue_or_dead_letter_conflict(
        &self,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Enqueued, StoreError>> + Send {
        async move {
            let enqueued = self.enqueue(delivery).await?;
            if enqueued == Enqueued::Conflict {
                self.dead_letter(&delivery.as_conflict(), Reason::without_status(ReasonCode::IdConflict)).await?;
            }
            Ok(enqueued)
        }
    }

    /// Stores a delivery as a dead letter, with its body. Repeated calls leave one dead letter.
    fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> impl Future<Output = Result<(), StoreError>> + Send;
}
