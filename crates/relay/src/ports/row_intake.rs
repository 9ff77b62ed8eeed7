//! The intake of rows: onto the fast path under the lock of their contact, or into the queue.
//!
//! See docs/adr/0002-per-contact-ordering.md.

use std::future::Future;

use jiff::Timestamp;
use relay_core::delivery::{Delivery, Reason};

use crate::ports::queue::StoreError;

/// When a caller wants its row sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The row is sent while the caller waits.
    Sync,
    /// The row is stored, and sent by a worker.
    Async,
}

/// Result of [`RowIntake::admit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The delivery holds the contact lock: the caller sends it, then [completes](RowIntake::complete) it.
    SendNow,
    /// The delivery is in the queue, since this call or an earlier one.
    Queued,
    /// The delivery was delivered before.
    AlreadyDelivered,
    /// The same delivery is being sent for another caller: ask again in a moment.
    InFlight,
    /// The key of an event was used for another contact. The event is a dead letter, and its caller gets an error.
    KeyOfOtherContact,
    /// Loops may have the event, and could not tell a repeat any more
    /// ([`is_resend_unsafe`](relay_core::policy::retry::is_resend_unsafe)), or it may have another event under its key. Only an
    /// operator may have it sent again, and its caller gets an error.
    OutcomeUnknown,
}

/// Result of a synchronous attempt, as the store has to record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncSendResult {
    /// The destination has accepted it.
    Delivered,
    /// The caller has got an error response: the store forgets the delivery.
    Rejected,
    /// The caller has got an error response, but an earlier try may have been accepted: the store remembers when it began.
    OutcomeUnknown,
    /// The delivery joins the queue at the position of its arrival.
    Deferred {
        /// Number of attempts that were made.
        attempts: u32,
        /// Earliest time of a worker's attempt.
        retry_at: Timestamp,
        /// Why it was not delivered.
        reason: Reason,
        /// Whether no worker may try it earlier, even if other deliveries succeed.
        no_early_retry: bool,
        /// Whether the destination may have accepted one of the attempts.
        outcome_unknown: bool,
    },
}

/// The intake of rows, and the contact locks. At most one delivery of a contact is sent at a time, and none while others of that contact are
/// queued, so that an older update never overwrites a newer one.
pub trait RowIntake: Send + Sync {
    /// Holds the contact lock for a caller, and releases it when dropped, in case the caller goes away before
    /// [`complete`](Self::complete).
    type Guard: Send;

    /// Stores a delivery in the queue, or takes the contact lock for it: the lock if the mode is [`DeliveryMode::Sync`], it is
    /// free and no delivery of the contact waits.
    fn admit(
        &self,
        delivery: &Delivery,
        mode: DeliveryMode,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// Takes the contact lock for a delivery that could not be stored. Returns [`Admission::Queued`] if it is stored after
    /// all, and [`Admission::InFlight`] if other deliveries of its contact go first. Fails if the store cannot tell, or
    /// cannot lock the contact.
    fn admit_without_record(&self, delivery: &Delivery) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// Returns what is known under the delivery's key, as [`admit`](Self::admit) would, and changes nothing. It is
    /// [`Admission::SendNow`] where that is nothing that keeps the delivery from being sent, and for one without a key.
    fn preview(&self, delivery: &Delivery) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// Returns the guard of a delivery that was just admitted as [`Admission::SendNow`].
    fn guard(&self, delivery: &Delivery) -> Self::Guard;

    /// Records the result and releases the contact lock.
    fn complete(
        &self,
        delivery: &Delivery,
        result: SyncSendResult,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
