//! What became of a delivery, for the caller who has its id.

use std::future::Future;

use jiff::Timestamp;
use relay_core::delivery::{DeliveryId, Reason};
use strum::IntoStaticStr;

use crate::ports::queue::StoreError;

/// Status that a store has with a delivery that its destination had accepted before (Loops API reference, "Send event").
pub const DUPLICATE_STATUS: u16 = 409;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Progress {
    /// A worker will send it.
    Queued,
    /// It waits until an operator has fixed the cause.
    Held,
    /// The destination has accepted it.
    Delivered,
    /// The destination had accepted it before.
    Duplicate,
    /// It became a dead letter.
    Dead,
}

/// What a store knows about a delivery, without anything personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// How far it has come.
    pub progress: Progress,
    /// Since when it is that far.
    pub since: Timestamp,
    /// Number of attempts begun.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: Option<Reason>,
    /// What the destination said when it refused the delivery, without the contact's address and id.
    pub message: Option<String>,
}

/// Where the status of a delivery is found.
pub trait DeliveryStatusSource: Send + Sync {
    /// Returns the status of a delivery. None if there is no record of it.
    fn delivery_status(
        &self,
        id: &DeliveryId,
    ) -> impl Future<Output = Result<Option<DeliveryStatus>, StoreError>> + Send;
}
