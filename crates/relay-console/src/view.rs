//! The documents that the page gets. None has an address, a name, a key, a token or a body.

use jiff::Timestamp;
use relay::ports::webhook_usage::WebhookUsage;
use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_core::webhook::route::CLAY_WEBHOOK_ROW_LIMIT;
use serde::Serialize;

/// What both destinations take, a second (Loops, API introduction: rate limiting; Clay, webhook guide: limits).
pub const DESTINATION_LIMIT: u32 = 10;

/// What flows now, and flowed in the last hour.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The relay, as a title: "The stack relay in eu-west-1", "The relay of .relay".
    pub relay: String,
    /// Version of the program that serves the page.
    pub version: &'static str,
    /// Whether the page can try the relay with simulated destinations.
    pub trial: bool,
    /// Seconds between two polls of the page. None if changes are streamed.
    pub poll_seconds: Option<u32>,
    /// The time of this document.
    pub at: Timestamp,
    /// Both directions, in the order of [`Direction::ALL`].
    pub directions: Vec<DirectionView>,
    /// Requests that were refused since `counted_since`, the most frequent first.
    pub refusals: Vec<RefusalCount>,
    /// The last refused requests, the newest first. Empty where only their number is known.
    pub last_refusals: Vec<Refusal>,
    /// The Clay webhooks, in the order of their routes.
    pub webhooks: Vec<WebhookView>,
    /// The last sixty minutes, the oldest first. None where no counts can be had.
    pub minutes: Option<Vec<Minute>>,
    /// Since when `accepted`, `delivered` and the refusals are counted.
    pub counted_since: Option<Timestamp>,
}

/// One direction.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectionView {
    /// `loops-to-clay` or `clay-to-loops`.
    pub direction: Direction,
    /// What stands at its end.
    pub destination: DestinationKind,
    /// Whether it is paused.
    pub paused: bool,
    /// Since when, if that is known.
    pub paused_since: Option<Timestamp>,
    /// Requests that were accepted since `counted_since`. None where it is not counted; so with the next two.
    pub accepted: Option<u64>,
    /// Deliveries that the destination accepted since then, duplicates included.
    pub delivered: Option<u64>,
    /// Deliveries that wait, held ones included.
    pub waiting: u64,
    /// Deliveries among them that wait for an operator. None where the store cannot count them.
    pub held: Option<u64>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Age of the oldest that waits, in seconds.
    pub oldest_seconds: Option<f64>,
    /// Deliveries a second, over the last ten seconds (on a stack, over the last full minute).
    pub per_second: Option<f64>,
    /// The rate that the relay keeps, a second.
    pub rate_limit: u32,
    /// The rate that the destination allows, a second.
    pub destination_limit: u32,
}

/// How often requests were refused for one cause.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalCount {
    /// Error code; on a stack the cause: `signature`, `token`, `request`, `loops`, `relay`.
    pub code: String,
    /// Number of requests.
    pub count: u64,
    /// What to do about it, in one sentence.
    pub advice: &'static str,
}

/// One refused request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// Direction.
    pub direction: Direction,
    /// Error code.
    pub code: &'static str,
    /// Field or header that is named, if its name is one of the relay's own.
    pub field: Option<String>,
    /// Id of the request, as the log has it.
    pub id: String,
}

/// Use of one Clay webhook.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookView {
    /// Its route.
    pub route: String,
    /// Its fingerprint.
    pub webhook: String,
    /// Rows that it has taken in its life.
    pub accepted: u64,
    /// Rows that it takes at most.
    pub limit: u64,
    /// Status with which it refused the last row, if it refuses rows.
    pub refused_with: Option<u16>,
}

impl WebhookView {
    /// Use of the webhook with this fingerprint.
    pub fn new(route: &str, fingerprint: String, usage: &WebhookUsage) -> Self {
        Self {
            route: route.to_owned(),
            webhook: fingerprint,
            accepted: usage.accepted,
            limit: CLAY_WEBHOOK_ROW_LIMIT,
            refused_with: usage.rejected.map(|(_, status)| status),
        }
    }
}

/// One minute of both directions.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Minute {
    /// Its beginning.
    pub at: Timestamp,
    /// Requests accepted.
    pub accepted: u64,
    /// Deliveries accepted by their destination.
    pub delivered: u64,
    /// Requests refused.
    pub refused: u64,
}

/// What to paste into Loops and Clay.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connect {
    /// URL for Loops, *Settings → Webhooks*.
    pub loops_webhook_url: String,
    /// Events to turn on there.
    pub loops_events: Vec<String>,
    /// URL of Clay's contact column.
    pub clay_contact_url: String,
    /// URL of Clay's event column.
    pub clay_event_url: String,
    /// How the operator gets to see the relay token, in one sentence.
    pub relay_token_hint: String,
    /// The account's own contact properties. Empty if Loops does not answer or has no key.
    pub properties: Vec<Property>,
    /// What is connected and what is not, in the order in which it is set up.
    pub steps: Vec<Step>,
}

/// A contact property of the account.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Property {
    /// Its key in a body.
    pub key: String,
    /// Its label in Loops.
    pub label: String,
    /// `string`, `number`, `boolean` or `date`.
    pub kind: String,
}

/// One step of the set-up.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `loops-webhook`, `clay-webhook`, `loops-key` or `relay-token`.
    pub name: &'static str,
    /// Whether it is done.
    pub done: bool,
    /// What was seen, or what to do, in one sentence.
    pub sentence: String,
}
