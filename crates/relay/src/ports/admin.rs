//! The operator's view of deliveries, wherever a relay stores them.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use serde::Serialize;

/// Held deliveries of a direction that a store counts at most, so that the count takes no longer the more there are.
pub const MAX_HELD_COUNT: u32 = 10_000;

/// Filter of a listing. What is not set matches every delivery.
#[derive(Debug, Clone, Default)]
pub struct DeliveryQuery {
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries of this direction.
    pub direction: Option<Direction>,
    /// Only deliveries whose last attempt failed with this reason code, and that were not delivered since.
    pub reason: Option<String>,
    /// Only deliveries that wait for an operator to fix the cause.
    pub held: bool,
    /// Only deliveries of the contact with this [hash](relay_core::contact::ContactKey::log_hash).
    pub contact_hash: Option<String>,
    /// Only deliveries of the webhook with this `webhook-id`.
    pub webhook_id: Option<String>,
    /// Routes of that webhook: its deliveries are found by them.
    pub routes: Vec<String>,
}

/// Where a page of deliveries begins: the key that the store gave with the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageKey(pub String);

/// Some of the deliveries that match a query.
#[derive(Debug, Clone, Default)]
pub struct DeliveryPage {
    /// The deliveries: the newest first, as far as the store has an order.
    pub records: Vec<DeliveryRecord>,
    /// Key of the next page, unless this is the last one.
    pub next: Option<PageKey>,
}

/// A delivery, as listings and `--json` show it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRecord {
    /// Id of the delivery.
    pub id: String,
    /// Direction, `loops-to-clay` or `clay-to-loops`.
    pub direction: Direction,
    /// State of the delivery.
    pub state: DeliveryState,
    /// Number of attempts begun.
    pub attempts: u32,
    /// Reason code of the last failure.
    pub reason: Option<String>,
    /// HTTP status of the destination, if the reason is a response.
    pub status: Option<u16>,
    /// Kind: `row`, `contact` or `event`.
    pub kind: String,
    /// The account that it was taken for, if it is not the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Route of a row.
    pub route: Option<String>,
    /// `webhook-id` of a row.
    pub webhook_id: Option<String>,
    /// Hash of the contact.
    pub contact_hash: Option<String>,
    /// When the relay accepted it.
    pub received_at: Option<Timestamp>,
    /// When the first attempt began.
    pub first_attempt_at: Option<Timestamp>,
    /// When the last attempt began.
    pub last_attempt_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Since when it waits for an operator to fix the cause, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
    /// When it was delivered or dead-lettered.
    pub settled_at: Option<Timestamp>,
    /// When it was dead-lettered.
    pub died_at: Option<Timestamp>,
    /// When an operator dropped its dead letter.
    pub dropped_at: Option<Timestamp>,
    /// Number of failures by reason, the most frequent first.
    pub failures: Vec<FailureCount>,
}

/// Number of failed attempts with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureCount {
    /// Reason code.
    pub reason: String,
    /// HTTP status of the destination, if it answered.
    pub status: Option<u16>,
    /// Number of attempts.
    pub count: u32,
    /// When it last occurred. Not every store records it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
}

/// Size of one direction's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    /// Direction.
    pub direction: Direction,
    /// Number of deliveries that wait, hidden ones included.
    pub waiting: u64,
    /// Number of those that wait for an operator, at most [`MAX_HELD_COUNT`]. None if the store cannot count them.
    pub held: Option<u64>,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// When the oldest that waits arrived. None if none waits, or the store cannot tell.
    pub oldest_received_at: Option<Timestamp>,
}

/// The deliveries of one relay.
pub trait Admin {
    /// Error of a store or a queue that cannot be read.
    type Error: std::error::Error + 'static;

    /// Returns the latest matching deliveries, at most `limit`, in the order of their arrival, and reports to `progress` how
    /// many are found so far. A delivery that its caller still waits for is not listed.
    fn latest_deliveries(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        progress: &dyn Fn(usize),
    ) -> impl Future<Output = Result<Vec<DeliveryRecord>, Self::Error>>;

    /// Returns a page of matching deliveries, at most `limit`: the first one, or the one with this key. All pages together have
    /// each of them once, and none takes more memory than its own deliveries. A page reads a bounded number of deliveries: it may
    /// have fewer than `limit`, or none, and a next one all the same.
    fn deliveries_page(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        key: Option<&PageKey>,
    ) -> impl Future<Output = Result<DeliveryPage, Self::Error>>;

    /// Returns one delivery.
    fn delivery(&self, id: &DeliveryId) -> impl Future<Output = Result<Option<DeliveryRecord>, Self::Error>>;

    /// Returns the body of a delivery, as far as it can be had: a relay on one machine stores it until the delivery, and a
    /// stack gives it out of the dead-letter queue only.
    fn body(&self, id: &DeliveryId) -> impl Future<Output = Result<Option<Bytes>, Self::Error>>;

    /// Returns the sizes of the queues, in the order of [`Direction::ALL`].
    fn queues(&self) -> impl Future<Output = Result<Vec<QueueStatus>, Self::Error>>;
}
