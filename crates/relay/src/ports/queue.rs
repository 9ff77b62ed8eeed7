//! The ports to what remembers: the queues and the ledger.
//!
//! One store may be behind all of them (a file), or several services. What they promise together: what was put is
//! delivered or kept, deliveries about the same contact go in the order they came, and what is done is known as done.

use std::future::Future;

use jiff::Timestamp;
use relay_core::delivery::{Delivery, Disposition, Reason, ReasonCode};

use crate::rate_limit::limiter::Readiness;

/// The store cannot do what it was asked now; it may later. The text is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store is unavailable: {0}")]
pub struct StoreFault(pub String);

/// What became of a delivery that was put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    New,
    /// It was stored before; it is still one delivery.
    Repeat,
    /// Another body is known under its id, and stays. This one is not stored.
    Conflict,
}

/// Where deliveries wait for a worker.
pub trait Queue: Send + Sync {
    /// Stores a delivery. When it returns, the delivery survives anything but the loss of the store.
    fn put(&self, delivery: &Delivery) -> impl Future<Output = Result<Stored, StoreFault>> + Send;

    /// Stores a delivery. Where another body is known under its id, this one is kept beside it, as a dead letter.
    fn put_or_keep(&self, delivery: &Delivery) -> impl Future<Output = Result<Stored, StoreFault>> + Send {
        async move {
            let stored = self.put(delivery).await?;
            if stored == Stored::Conflict {
                self.put_dead(&delivery.conflict(), Reason::own(ReasonCode::IdConflict)).await?;
            }
            Ok(stored)
        }
    }

    /// Stores a delivery as a dead letter, body and all; once, however often it is put.
    fn put_dead(&self, delivery: &Delivery, reason: Reason) -> impl Future<Output = Result<(), StoreFault>> + Send;
}

/// What a caller would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To have it sent while it waits.
    Direct,
    /// To have it stored.
    Later,
}

/// What is done with a row from Clay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It has the lane to its contact: send it, then [settle](DirectLane::settle_direct) it.
    Direct,
    /// It waits in the queue, now or since an earlier call.
    Queued,
    /// It was delivered before.
    DeliveredBefore,
    /// The same is being sent for another caller right now: ask again in a moment.
    Busy,
}

/// How a direct attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectEnd {
    /// The far end has it.
    Delivered,
    /// The caller was told that it is refused: nothing is kept.
    Refused,
    /// It joins the queue, in the place that it had when it came.
    Postponed {
        /// How many attempts were made.
        attempts: u32,
        /// When a worker may try it.
        at: Timestamp,
        /// Why it was not delivered.
        reason: Reason,
        /// Whether it is never tried before that, whatever else gets through.
        firm: bool,
    },
}

/// The lane past the queue: at most one delivery at a time for each contact, and none while others of that contact wait,
/// so that an older update never overwrites a newer one.
pub trait DirectLane: Send + Sync {
    /// Keeps the lane for a caller, and gives it back when it is dropped, should the caller be gone before it has settled.
    type Guard: Send;

    /// Asks for the lane.
    fn admit(&self, delivery: &Delivery, wish: Wish) -> impl Future<Output = Result<Admission, StoreFault>> + Send;

    /// Asks for the lane of a delivery that could not be stored: [`Admission::Queued`] where it is stored after all, and
    /// [`Admission::Busy`] where others of its contact go first. A fault where that cannot be told, or the lane not be
    /// kept from others.
    fn admit_unstored(&self, delivery: &Delivery) -> impl Future<Output = Result<Admission, StoreFault>> + Send;

    /// The guard of a delivery that was admitted as [`Admission::Direct`] a moment ago.
    fn guard(&self, delivery: &Delivery) -> Self::Guard;

    /// Gives the lane back.
    fn settle_direct(&self, delivery: &Delivery, end: DirectEnd)
    -> impl Future<Output = Result<(), StoreFault>> + Send;
}

/// What is known of a Clay webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookUse {
    /// How many rows it has taken.
    pub taken: u64,
    /// When it last answered that it takes no more, with this status.
    pub refused: Option<(Timestamp, u16)>,
}

/// What a webhook answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// It took the row.
    Taken,
    /// It takes no more: this status.
    Refused(u16),
}

/// The ledger of Clay webhooks: each takes 50,000 rows in its life, and only the relay counts them.
pub trait WebhookLedger: Send + Sync {
    /// What is known of the webhook with this [key](relay_core::webhook::route::ClayWebhook::key).
    fn usage(&self, webhook: &str) -> impl Future<Output = Result<WebhookUse, StoreFault>> + Send;

    /// Notes what it answered.
    fn note(
        &self,
        webhook: &str,
        submission: Submission,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreFault>> + Send;
}

/// What a queue's worker loop needs to know of an attempt.
pub trait Attempt: Send + Sync {
    /// Tries a delivery once and says what its queue does with it.
    fn attempt(
        &self,
        delivery: &Delivery,
        history: relay_core::delivery::History,
    ) -> impl Future<Output = Disposition> + Send;

    /// Whether the far end can be tried now.
    fn readiness(&self) -> Readiness;
}
