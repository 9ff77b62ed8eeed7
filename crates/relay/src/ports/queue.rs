//! The ports to what remembers: the queues and the ledger.
//!
//! One store may be behind all of them (a file), or several services. What they promise together: what was put is
//! delivered or kept, deliveries about the same contact go in the order they came, and what is done is known as done.

use std::future::Future;

use jiff::Timestamp;
use relay_core::delivery::{AttemptResult, Delivery, Reason, ReasonCode};

use crate::rate_limit::limiter::Readiness;

/// The store cannot do what it was asked now; it may later. The text is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store is unavailable: {0}")]
pub struct StoreError(pub String);

/// What became of a delivery that was put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is stored.
    New,
    /// It was stored before; it is still one delivery.
    Duplicate,
    /// Another body is known under its id, and stays. This one is not stored.
    Conflict,
}

/// Where deliveries wait for a worker.
pub trait Queue: Send + Sync {
    /// Stores a delivery. When it returns, the delivery survives anything but the loss of the store.
    fn enqueue(&self, delivery: &Delivery) -> impl Future<Output = Result<Enqueued, StoreError>> + Send;

    /// Stores a delivery. Where another body is known under its id, this one is kept beside it, as a dead letter.
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

    /// Stores a delivery as a dead letter, body and all; once, however often it is put.
    fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a caller would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    /// To have it sent while it waits.
    Sync,
    /// To have it stored.
    Async,
}

/// What is done with a row from Clay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It has the lane to its contact: send it, then [settle](DirectLane::settle_direct) it.
    SendNow,
    /// It waits in the queue, now or since an earlier call.
    Queued,
    /// It was delivered before.
    AlreadyDelivered,
    /// The same is being sent for another caller right now: ask again in a moment.
    InFlight,
}

/// How a direct attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastPathResult {
    /// The far end has it.
    Delivered,
    /// The caller was told that it is refused: nothing is kept.
    Rejected,
    /// It joins the queue, in the place that it had when it came.
    Deferred {
        /// How many attempts were made.
        attempts: u32,
        /// When a worker may try it.
        retry_at: Timestamp,
        /// Why it was not delivered.
        reason: Reason,
        /// Whether it is never tried before that, whatever else gets through.
        no_early_retry: bool,
    },
}

/// The lane past the queue: at most one delivery at a time for each contact, and none while others of that contact wait,
/// so that an older update never overwrites a newer one.
pub trait FastPath: Send + Sync {
    /// Keeps the lane for a caller, and gives it back when it is dropped, should the caller be gone before it has settled.
    type Guard: Send;

    /// Asks for the lane.
    fn admit(
        &self,
        delivery: &Delivery,
        mode: DeliveryMode,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// Asks for the lane of a delivery that could not be stored: [`Admission::Queued`] where it is stored after all, and
    /// [`Admission::Busy`] where others of its contact go first. A fault where that cannot be told, or the lane not be
    /// kept from others.
    fn admit_without_record(&self, delivery: &Delivery) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// The guard of a delivery that was admitted as [`Admission::Direct`] a moment ago.
    fn guard(&self, delivery: &Delivery) -> Self::Guard;

    /// Gives the lane back.
    fn complete(
        &self,
        delivery: &Delivery,
        result: FastPathResult,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What is known of a Clay webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookUsage {
    /// How many rows it has taken.
    pub accepted: u64,
    /// When it last answered that it takes no more, with this status.
    pub rejected: Option<(Timestamp, u16)>,
}

/// What a webhook answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// It took the row.
    Accepted,
    /// It takes no more: this status.
    Rejected(u16),
}

/// The ledger of Clay webhooks: each takes 50,000 rows in its life, and only the relay counts them.
pub trait WebhookLedger: Send + Sync {
    /// What is known of the webhook with this [key](relay_core::webhook::route::ClayWebhook::key).
    fn usage(&self, webhook: &str) -> impl Future<Output = Result<WebhookUsage, StoreError>> + Send;

    /// Notes what it answered.
    fn record(
        &self,
        webhook: &str,
        submission: Submission,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a queue's worker loop needs to know of an attempt.
pub trait Deliver: Send + Sync {
    /// Tries a delivery once and says what its queue does with it.
    fn deliver(
        &self,
        delivery: &Delivery,
        history: relay_core::delivery::AttemptHistory,
    ) -> impl Future<Output = AttemptResult> + Send;

    /// Whether the far end can be tried now.
    fn readiness(&self) -> Readiness;
}
