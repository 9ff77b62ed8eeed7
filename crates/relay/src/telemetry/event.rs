//! What the relay says about itself: one signal for everything that happened to a request or a delivery. Each is one line of
//! the log, and what is [counted](crate::telemetry::metric) of it. A program says at its start who [listens](listen).
//!
//! A signal has no room for an address, a name, a key, a URL or a body: what is not in this list is not told.

use std::sync::OnceLock;
use std::time::Duration;

use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryKind, Direction, Reason};
use relay_core::error::ErrorCode;
use strum::IntoStaticStr;
use tracing::Level;

/// What became of a request at the door, or of a worker's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum EventOutcome {
    /// It is stored, and will be delivered.
    Queued,
    /// The event is not wanted.
    Ignored,
    /// The event only tried the endpoint.
    Test,
    /// It cannot be passed on, and is kept as a dead letter.
    Rejected,
    /// The caller was told that it is refused.
    Refused,
    /// The far end has it.
    Delivered,
    /// The far end had it before.
    Duplicate,
    /// It is tried again later.
    Retried,
    /// A person has to mend something first.
    Held,
    /// It will never be taken.
    #[strum(serialize = "dead")]
    DeadLettered,
    /// Its turn has not come.
    #[strum(serialize = "waits")]
    Waiting,
}

impl EventOutcome {
    /// The field `outcome` of a line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A caller waits for the answer.
    Request,
    /// A worker has taken it from the queue.
    Worker,
}

/// How a pool of Clay webhooks stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUsageSample {
    /// The [key](relay_core::webhook::route::ClayWebhook::key) of the webhook that was posted to.
    pub webhook: String,
    /// How many rows it has taken in its life.
    pub submissions: u64,
    /// How much of what the whole pool can take is used, in percent.
    pub used_percent: u64,
}

/// What is measured while something is tried.
#[derive(Debug, Clone, Default)]
pub struct CallStats {
    /// How often the far end was called.
    pub calls: u32,
    /// How long the last call took.
    pub last_call_duration: Option<Duration>,
    /// Whether the far end said that it had it before.
    pub duplicate: bool,
    /// How the pool stands.
    pub pool: Option<PoolUsageSample>,
}

impl CallStats {
    /// Notes a call.
    pub fn record(&mut self, duration: Duration) {
        self.calls = self.calls.saturating_add(1);
        self.last_call_duration = Some(duration);
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct DeliveryEvent<'a> {
    /// Which way.
    pub direction: Direction,
    /// Where.
    pub stage: Stage,
    /// What.
    pub outcome: EventOutcome,
    /// The id of the delivery, or the one that a refusal has: it is in the answer, and goes to the far end.
    pub delivery_id: &'a str,
    /// The `webhook-id` of a verified webhook.
    pub webhook_id: Option<&'a str>,
    /// The name of a verified event of Loops.
    pub loops_event: Option<&'a str>,
    /// What a row becomes in Loops: a `contact` or an `event`.
    pub kind: Option<&'static str>,
    /// Whom it is about; told as a keyed hash.
    pub contact: Option<&'a ContactKey>,
    /// The code of a refusal.
    pub code: Option<ErrorCode>,
    /// The header or field of the relay's own vocabulary that a refusal names.
    pub field: Option<&'a str>,
    /// Why it waits or died.
    pub reason: Option<Reason>,
    /// What the store said, where it failed.
    pub error: Option<&'a str>,
    /// How often it was tried, this time included.
    pub attempts: u32,
    /// How long it took.
    pub duration: Duration,
    /// How long ago the relay took the delivery.
    pub age: Option<Duration>,
    /// What was measured.
    pub stats: CallStats,
}

/// A text or a number of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(u64),
}

impl<'a> DeliveryEvent<'a> {
    /// A signal of which nothing else is known.
    #[must_use]
    pub fn new(direction: Direction, stage: Stage, outcome: EventOutcome, delivery_id: &'a str) -> Self {
        Self {
            direction,
            stage,
            outcome,
            delivery_id,
            webhook_id: None,
            loops_event: None,
            kind: None,
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

    /// A signal of what a worker did with a delivery.
    #[must_use]
    pub fn for_delivery(delivery: &'a Delivery, outcome: EventOutcome) -> Self {
        let (kind, webhook_id) = match &delivery.kind {
            DeliveryKind::ClayRow { webhook_id, .. } => (None, Some(webhook_id.as_str())),
            DeliveryKind::LoopsContact | DeliveryKind::LoopsEvent { .. } => (Some(delivery.kind.as_str()), None),
        };
        let event = Self::new(delivery.kind.direction(), Stage::Worker, outcome, delivery.id.as_str());
        Self { webhook_id, kind, contact: Some(&delivery.contact), ..event }
    }

    /// How loud its line is.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self.outcome {
            EventOutcome::Held | EventOutcome::DeadLettered => Level::ERROR,
            EventOutcome::Refused if matches!(self.code, Some(ErrorCode::Unavailable | ErrorCode::Internal)) => {
                Level::ERROR
            }
            EventOutcome::Refused | EventOutcome::Rejected | EventOutcome::Retried => Level::WARN,
            EventOutcome::Queued
            | EventOutcome::Ignored
            | EventOutcome::Test
            | EventOutcome::Delivered
            | EventOutcome::Duplicate
            | EventOutcome::Waiting => Level::INFO,
        }
    }

    /// What its line says to a person.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match (self.stage, self.direction, self.outcome) {
            (Stage::Request, Direction::LoopsToClay, EventOutcome::Refused) => "webhook refused",
            (Stage::Request, Direction::LoopsToClay, EventOutcome::Rejected) => "webhook kept as a dead letter",
            (Stage::Request, Direction::LoopsToClay, _) => "webhook taken",
            (Stage::Request, Direction::ClayToLoops, EventOutcome::Refused) => "row refused",
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

    /// The fields of its line, besides level and message. The contact is the hash that the listener has made of it.
    #[must_use]
    pub fn fields(&self, contact: Option<&'a str>) -> Vec<(&'static str, FieldValue<'a>)> {
        let mut fields = vec![
            ("direction", FieldValue::Text(self.direction.as_str())),
            ("outcome", FieldValue::Text(self.outcome.as_str())),
            ("delivery.id", FieldValue::Text(self.delivery_id)),
        ];
        let texts = [
            ("webhook.id", self.webhook_id),
            ("loops.event", self.loops_event),
            ("row", self.kind),
            ("contact", contact),
            ("code", self.code.map(ErrorCode::as_str)),
            ("field", self.field),
            ("reason", self.reason.map(|reason| reason.code.as_str())),
            ("error", self.error),
        ];
        fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name, FieldValue::Text(text?)))));
        if let Some(status) = self.reason.and_then(|reason| reason.status) {
            fields.push(("status", FieldValue::Number(status.into())));
        }
        if self.attempts > 0 {
            fields.push(("attempts", FieldValue::Number(self.attempts.into())));
        }
        fields.push(("ms", FieldValue::Number(milliseconds(self.duration))));
        fields
    }

    /// Tells it to whoever listens.
    pub fn emit(&self) {
        if let Some(sink) = SINK.get() {
            sink(self);
        }
    }
}

/// Who is told.
type Sink = Box<dyn Fn(&DeliveryEvent<'_>) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Says who is told of every signal from now on. A second one is not minded: a process has one log.
pub fn set_sink(sink: impl Fn(&DeliveryEvent<'_>) + Send + Sync + 'static) {
    let _ = SINK.set(Box::new(sink));
}

/// A time in whole milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
