//! What is told of deliveries, queues and dead letters, in both forms of output.

use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;
pub use relay_local::commands::deliveries::format_reason;
use serde::{Serialize, Serializer};

/// A delivery.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRecord {
    /// Its id.
    pub id: String,
    /// `loops-to-clay` or `clay-to-loops`.
    #[serde(serialize_with = "direction")]
    pub direction: Direction,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// Why it waits or died.
    pub reason: Option<String>,
    /// The status of the far end's last answer, where that is the reason.
    pub status: Option<u16>,
    /// What it is: `row`, `contact` or `event`.
    pub kind: String,
    /// The route of a row.
    pub route: Option<String>,
    /// The webhook id of a row.
    pub webhook_id: Option<String>,
    /// The hash of its contact.
    pub contact_hash: Option<String>,
    /// When the relay took it.
    pub received_at: Option<Timestamp>,
    /// When it was tried first.
    pub first_attempt_at: Option<Timestamp>,
    /// When it was tried last.
    pub last_attempt_at: Option<Timestamp>,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered or died.
    pub settled_at: Option<Timestamp>,
    /// When a person dropped its dead letter.
    pub dropped_at: Option<Timestamp>,
    /// How often which reason occurred; only where one delivery is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureRecord>,
}

/// How often attempts failed for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureRecord {
    /// The reason.
    pub reason: String,
    /// The far end's status, where it answered.
    pub status: Option<u16>,
    /// How often.
    pub count: u32,
}

/// How one direction stands.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueRecord {
    /// The direction.
    #[serde(serialize_with = "direction")]
    pub direction: Direction,
    /// How many deliveries are in its queue.
    pub waiting: u64,
    /// How many dead letters it has.
    pub dead_letters: u64,
    /// Whether a person has paused it.
    pub paused: bool,
    /// Since when, where that is known.
    pub paused_since: Option<Timestamp>,
}

/// What pausing, or ending a pause, came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseResult {
    /// The direction.
    #[serde(serialize_with = "direction")]
    pub direction: Direction,
    /// Whether it is paused now.
    pub paused: bool,
    /// Whether that was changed, or was so before.
    pub changed: bool,
}

/// A dead letter, as it is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterRecord {
    /// The id of its delivery; the message's own where it holds none.
    pub id: String,
    /// The direction.
    #[serde(serialize_with = "direction")]
    pub direction: Direction,
    /// What it is: `row`, `contact` or `event`.
    pub kind: Option<String>,
    /// Why it died; nothing where the queue took it away.
    pub reason: Option<String>,
    /// The far end's status, where that is the reason.
    pub status: Option<u16>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
    /// The route of a row; nothing where it was refused before it had one.
    pub route: Option<String>,
    /// The webhook id of a row.
    pub webhook_id: Option<String>,
    /// When the relay took it.
    pub received_at: Option<Timestamp>,
    /// When it died.
    pub died_at: Option<Timestamp>,
    /// How long its body is, in bytes.
    pub bytes: u64,
    /// What is, or would be, done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
}

/// Something that happened to a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryChange {
    /// When.
    pub at: Timestamp,
    /// The direction.
    pub direction: String,
    /// The id of the delivery.
    pub id: String,
    /// Where it stands now.
    pub state: DeliveryState,
    /// Why it waits or died.
    pub reason: Option<String>,
    /// The far end's status, where that is the reason.
    pub status: Option<u16>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
    /// The webhook id of a row.
    pub webhook_id: Option<String>,
}

/// A time in a table.
#[must_use]
pub fn format_time(at: Option<Timestamp>) -> String {
    at.map(relay_local::commands::deliveries::format_time).unwrap_or_default()
}

fn direction<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(direction.as_str())
}
