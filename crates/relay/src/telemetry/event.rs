//! The event of a request or of a worker's attempt. Each is one log line, and has [metrics](crate::telemetry::metric). A
//! program [installs](set_sink) the receiver of all events at its start.
//!
//! An event has no field for an address, a name, a key, a URL or a body, so none of them can be logged.
//!
//! See docs/adr/0011-telemetry.md.

use std::sync::OnceLock;
use std::time::Duration;

use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryKind, Direction, Reason};
use relay_core::error::ErrorCode;
use strum::IntoStaticStr;
use tracing::Level;

/// Outcome of a request, or of a worker's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum EventOutcome {
    /// The delivery is stored; a worker will send it.
    Queued,
    /// The event is not selected.
    Ignored,
    /// The event only tests the endpoint.
    Test,
    /// The event cannot be relayed: it became a dead letter.
    Rejected,
    /// The caller got an error response.
    Refused,
    /// The destination has accepted it.
    Delivered,
    /// The destination had accepted it before.
    Duplicate,
    /// The caller got what would be sent, and nothing was.
    DryRun,
    /// The caller got what it asked for.
    Answered,
    /// A worker retries it later.
    Retried,
    /// An operator has to fix the cause first.
    Held,
    /// The destination will never accept it: it became a dead letter.
    #[strum(serialize = "dead")]
    DeadLettered,
    /// Another delivery of the contact goes first, or its next attempt is not due.
    #[strum(serialize = "waits")]
    Waiting,
    /// A secret cannot be read, is gone or has the wrong form. It concerns no single delivery.
    SecretUnreadable,
}

impl EventOutcome {
    /// The field `outcome` of a log line.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The part of the relay in which an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A handler, while a caller waits for the response.
    Request,
    /// A worker of a queue.
    Worker,
}

/// Usage of a pool of Clay webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUsageSample {
    /// Fingerprint of the webhook that was posted to.
    pub webhook: String,
    /// Number of rows that it has accepted in its life.
    pub submissions: u64,
    /// Used share of what the whole pool can accept, in percent.
    pub used_percent: u64,
}

/// Measurements of an attempt.
#[derive(Debug, Clone, Default)]
pub struct CallStats {
    /// Number of calls to the destination.
    pub calls: u32,
    /// Duration of the last call.
    pub last_call_duration: Option<Duration>,
    /// Whether the destination may have processed a call without saying so.
    pub outcome_unknown: bool,
    /// Whether the destination said that it had accepted the delivery before.
    pub duplicate: bool,
    /// Usage of the pool.
    pub pool: Option<PoolUsageSample>,
}

/// What happened to a request or a delivery.
#[derive(Debug, Clone)]
pub struct DeliveryEvent<'a> {
    /// Direction of the delivery.
    pub direction: Direction,
    /// Stage in which it happened.
    pub stage: Stage,
    /// Outcome.
    pub outcome: EventOutcome,
    /// The id of the delivery, or of a rejected request. It is also in the response and in calls to the destination. Empty
    /// for an event that concerns no delivery.
    pub delivery_id: &'a str,
    /// The `webhook-id` of a verified webhook.
    pub webhook_id: Option<&'a str>,
    /// The name of a verified event of Loops.
    pub loops_event: Option<&'a str>,
    /// What a row becomes in Loops (`contact`, `event`, `create`, `delete`, `email`), or which other call it is.
    pub kind: Option<&'static str>,
    /// The name of the relay token that a row came with, if it has one.
    pub token: Option<&'a str>,
    /// The contact; sinks log a keyed hash of it.
    pub contact: Option<&'a ContactKey>,
    /// The code of an error response.
    pub code: Option<ErrorCode>,
    /// The header or field that an error response names, if its name is one of the relay's own.
    pub field: Option<&'a str>,
    /// Why it waits or was dead-lettered.
    pub reason: Option<Reason>,
    /// The store's error, if it failed; or what is wrong with the relay's settings.
    pub error: Option<&'a str>,
    /// Number of attempts, this one included.
    pub attempts: u32,
    /// Duration of the request or the attempt.
    pub duration: Duration,
    /// Time since the delivery arrived.
    pub age: Option<Duration>,
    /// Measurements.
    pub stats: CallStats,
}

impl<'a> DeliveryEvent<'a> {
    /// An event with these fields only.
    pub fn new(direction: Direction, stage: Stage, outcome: EventOutcome, delivery_id: &'a str) -> Self {
        Self {
            direction,
            stage,
            outcome,
            delivery_id,
            webhook_id: None,
            loops_event: None,
            kind: None,
            token: None,
            contact: None,
            code: None,
            field: None,
            reason: None,
            error: None,
            attempts: 0,
            duration: Duration::ZERO,
            age: None,
            stats: CallStats::default(),
        }
    }

    /// The event of a worker's attempt at a delivery.
    pub fn for_delivery(delivery: &'a Delivery, outcome: EventOutcome) -> Self {
        let (kind, webhook_id) = match &delivery.kind {
            DeliveryKind::ClayRow { webhook_id, .. } => (None, Some(webhook_id.as_str())),
            _ => (Some(delivery.kind.as_str()), None),
        };
        let event = Self::new(delivery.kind.direction(), Stage::Worker, outcome, delivery.id.as_str());
        Self { webhook_id, kind, contact: Some(&delivery.contact), ..event }
    }

    /// Level of its log line.
    pub const fn level(&self) -> Level {
        match self.outcome {
            EventOutcome::Held | EventOutcome::DeadLettered | EventOutcome::SecretUnreadable => Level::ERROR,
            EventOutcome::Refused if matches!(self.code, Some(ErrorCode::Unavailable | ErrorCode::Internal)) => {
                Level::ERROR
            }
            EventOutcome::Refused | EventOutcome::Rejected | EventOutcome::Retried => Level::WARN,
            EventOutcome::Queued
            | EventOutcome::Ignored
            | EventOutcome::Test
            | EventOutcome::Delivered
            | EventOutcome::Duplicate
            | EventOutcome::DryRun
            | EventOutcome::Answered
            | EventOutcome::Waiting => Level::INFO,
        }
    }

    /// Message of its log line.
    pub const fn message(&self) -> &'static str {
        match (self.stage, self.direction, self.outcome) {
            (_, _, EventOutcome::SecretUnreadable) => "a secret cannot be read or used",
            (Stage::Request, Direction::LoopsToClay, EventOutcome::Refused) => "webhook refused",
            (Stage::Request, Direction::LoopsToClay, EventOutcome::Rejected) => "webhook kept as a dead letter",
            (Stage::Request, Direction::LoopsToClay, _) => "webhook taken",
            (Stage::Request, Direction::ClayToLoops, EventOutcome::Refused) => "row refused",
            (Stage::Request, Direction::ClayToLoops, EventOutcome::DryRun) => "row tried without sending it",
            (Stage::Request, Direction::ClayToLoops, EventOutcome::Answered) => "call answered",
            (Stage::Request, Direction::ClayToLoops, _) => "row taken",
            (Stage::Worker, _, EventOutcome::Duplicate) => "delivered before",
            (Stage::Worker, _, EventOutcome::Retried) => "to be tried again",
            (Stage::Worker, _, EventOutcome::Held) => "held: somebody has to mend this",
            (Stage::Worker, _, EventOutcome::DeadLettered) => "dead letter",
            (Stage::Worker, _, EventOutcome::Waiting) => "not its turn yet",
            (Stage::Worker, _, EventOutcome::Queued) => "stored for the routes that there are now",
            (Stage::Worker, _, _) => "delivered",
        }
    }

    /// Passes the event to the installed sink, if there is one.
    pub fn emit(&self) {
        if let Some(sink) = SINK.get() {
            sink(self);
        }
    }
}

/// Expands `$then!` with the fields of an event's log line besides level and message, each as `name = Option`. `$contact` is
/// the keyed hash of the contact. The list is a macro because `tracing` takes the names of fields as tokens.
#[macro_export]
macro_rules! log_fields {
    ($event:expr, $contact:expr, $then:ident!($($head:tt)*)) => {
        $then! {
            $($head)*
            direction = Some($event.direction.as_str()),
            outcome = Some($event.outcome.as_str()),
            delivery.id = Some($event.delivery_id).filter(|id| !id.is_empty()),
            webhook.id = $event.webhook_id,
            loops.event = $event.loops_event.map($crate::telemetry::event::truncate_name),
            row = $event.kind,
            token = $event.token,
            contact = $contact,
            code = $event.code.map(|code| code.as_str()),
            field = $event.field,
            reason = $event.reason.map(|reason| reason.code.as_str()),
            error = $event.error,
            status = $event.reason.and_then(|reason| reason.status),
            attempts = Some($event.attempts).filter(|attempts| *attempts > 0),
            ms = Some($crate::telemetry::event::milliseconds($event.duration)),
        }
    };
}

/// Maximum length of an event's name in the log: Loops' own are below 40, and a name is as long as its signer makes it.
pub const MAX_LOGGED_NAME_CHARS: usize = 100;

/// Cuts a name to what is logged of it.
pub fn truncate_name(name: &str) -> &str {
    name.char_indices().nth(MAX_LOGGED_NAME_CHARS).map_or(name, |(end, _)| name.get(..end).unwrap_or(name))
}

/// Receiver of every event.
type Sink = Box<dyn Fn(&DeliveryEvent<'_>) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Installs the process-wide event sink. Later calls are ignored.
pub fn set_sink(sink: impl Fn(&DeliveryEvent<'_>) + Send + Sync + 'static) {
    let _ = SINK.set(Box::new(sink));
}

/// Returns a duration in whole milliseconds.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
