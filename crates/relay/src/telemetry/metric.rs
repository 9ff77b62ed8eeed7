//! The metrics of an event, with the same names in Lambda and in `relay-local`.
//!
//! CloudWatch charges $0.30 a month for every name with every value of its dimension, for the hours in which it occurs. So a
//! metric has one dimension. What matters only when something is wrong (an error code, the id of a delivery) is in the log
//! line alone.

use relay_core::delivery::ReasonCode;
use relay_core::error::ErrorCode;
use serde::Serialize;

use crate::telemetry::event::{DeliveryEvent, EventOutcome, Stage, milliseconds};

/// Dimension of most metrics.
pub const DIRECTION: &str = "direction";
/// Dimension of [`REFUSED`]: the part that has to change.
pub const CAUSE: &str = "cause";
/// Dimension of [`SUBMISSIONS`]: the fingerprint of the Clay webhook.
pub(crate) const WEBHOOK: &str = "webhook";

/// Requests that were accepted: each is delivered, or queued.
pub const ACCEPTED: &str = "accepted";
/// Requests that got an error response.
pub const REFUSED: &str = "refused";
/// Calls that only read, and were answered.
pub const ANSWERED: &str = "answered";
/// Deliveries that the destination accepted.
pub const DELIVERED: &str = "delivered";
/// Deliveries that the destination had accepted before.
pub const DUPLICATE: &str = "duplicate";
/// Attempts after which another one follows.
pub const RETRIED: &str = "retried";
/// Age of a delivery that is tried again, in seconds, as the alarms' threshold is.
pub const RETRIED_AGE: &str = "retried_age";
/// Deliveries and events that became dead letters.
pub const DEAD: &str = "dead";
/// Attempts after which an operator has to fix the cause.
pub const HELD: &str = "held";
/// Time between the arrival of a delivery and a worker's attempt at it: the age of the queue.
pub const AGE_MS: &str = "age_ms";
/// Response time of the destination.
pub const DESTINATION_MS: &str = "destination_ms";
/// Calls with a key that Loops rejects.
pub const LOOPS_KEY_REFUSED: &str = "loops_key_refused";
/// Reads of a secret that failed, or found one that is gone or has the wrong form.
pub const SECRET_UNREADABLE: &str = "secret_unreadable";
/// Used share of a pool of Clay webhooks.
pub const POOL_USED: &str = "pool_used";
/// Number of rows that a Clay webhook has accepted in its life.
pub const SUBMISSIONS: &str = "submissions";

/// The cause of errors that an operator has to fix.
const RELAY: &str = "relay";

/// Unit of a metric, as CloudWatch calls it (CloudWatch API reference, `MetricDatum`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Number of things.
    Count,
    /// Thousandths of a second.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Hundredths of a whole.
    Percent,
}

/// A metric of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric<'a> {
    /// One of the names above.
    pub name: &'static str,
    /// Unit of the value.
    pub unit: Unit,
    /// What is added to a counter, or was measured.
    pub value: u64,
    /// Name and value of its dimension.
    pub dimension: (&'static str, &'a str),
}

/// The causes that [`REFUSED`] is counted by.
pub const REFUSAL_CAUSES: [&str; 5] = ["signature", "token", "request", "loops", RELAY];

/// Returns the cause of an error: the caller, the signature, the token or the relay.
pub const fn refusal_cause(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::MissingHeader
        | ErrorCode::MalformedHeader
        | ErrorCode::InvalidSignature
        | ErrorCode::TimestampOutOfRange => "signature",
        ErrorCode::InvalidToken | ErrorCode::MissingScope => "token",
        ErrorCode::LoopsRejected | ErrorCode::OutcomeUnknown => "loops",
        ErrorCode::LoopsKeyRejected | ErrorCode::NotConfigured | ErrorCode::Unavailable | ErrorCode::Internal => RELAY,
        ErrorCode::TooLarge
        | ErrorCode::InvalidBody
        | ErrorCode::InvalidJson
        | ErrorCode::InvalidField
        | ErrorCode::MissingField
        | ErrorCode::ColumnNotInserted
        | ErrorCode::ValueTooLong
        | ErrorCode::InvalidOption
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed => "request",
    }
}

/// Returns the metrics of an event.
pub fn metrics_of<'a>(event: &'a DeliveryEvent<'_>) -> Vec<Metric<'a>> {
    let by_direction = (DIRECTION, event.direction.as_str());
    let mut metrics = Vec::new();
    let mut add = |name, unit, value, dimension| metrics.push(Metric { name, unit, value, dimension });
    let mut count = |name, dimension| add(name, Unit::Count, 1, dimension);
    if event.stage == Stage::Request
        && matches!(event.outcome, EventOutcome::Queued | EventOutcome::Delivered | EventOutcome::Duplicate)
    {
        count(ACCEPTED, by_direction);
    }
    match event.outcome {
        EventOutcome::Refused => count(REFUSED, (CAUSE, event.code.map_or(RELAY, refusal_cause))),
        EventOutcome::Rejected | EventOutcome::DeadLettered => count(DEAD, by_direction),
        EventOutcome::Delivered => count(DELIVERED, by_direction),
        EventOutcome::Duplicate => count(DUPLICATE, by_direction),
        EventOutcome::Answered => count(ANSWERED, by_direction),
        EventOutcome::Retried => count(RETRIED, by_direction),
        EventOutcome::Held => count(HELD, by_direction),
        EventOutcome::SecretUnreadable => count(SECRET_UNREADABLE, by_direction),
        // It was tried while its caller waited, and a worker retries it.
        EventOutcome::Queued if event.stats.calls > 0 => count(RETRIED, by_direction),
        EventOutcome::Queued
        | EventOutcome::Ignored
        | EventOutcome::Test
        | EventOutcome::DryRun
        | EventOutcome::Waiting => {}
    }
    if event.code == Some(ErrorCode::LoopsKeyRejected)
        || event.reason.is_some_and(|reason| reason.code == ReasonCode::LoopsKeyRejected)
    {
        count(LOOPS_KEY_REFUSED, by_direction);
    }
    if let Some(age) = event.age {
        add(AGE_MS, Unit::Milliseconds, milliseconds(age), by_direction);
        if event.outcome == EventOutcome::Retried {
            add(RETRIED_AGE, Unit::Seconds, age.as_secs(), by_direction);
        }
    }
    if let Some(duration) = event.stats.last_call_duration {
        add(DESTINATION_MS, Unit::Milliseconds, milliseconds(duration), by_direction);
    }
    if let Some(pool) = &event.stats.pool {
        add(POOL_USED, Unit::Percent, pool.used_percent, by_direction);
        add(SUBMISSIONS, Unit::Count, pool.submissions, (WEBHOOK, &pool.webhook));
    }
    metrics
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_core::delivery::Direction;
    use strum::VariantArray as _;

    use super::*;
    use crate::telemetry::event::{CallStats, PoolUsageSample};

    fn names(event: &DeliveryEvent<'_>) -> Vec<&'static str> {
        metrics_of(event).iter().map(|metric| metric.name).collect()
    }

    fn request_event(outcome: EventOutcome) -> DeliveryEvent<'static> {
        DeliveryEvent::new(Direction::ClayToLoops, Stage::Request, outcome, "contact_1")
    }

    #[test]
    fn synchronous_delivery_emits_accepted_delivered_and_latency() {
        let stats = CallStats { calls: 1, last_call_duration: Some(Duration::from_millis(7)), ..CallStats::default() };
        let event = DeliveryEvent { stats, ..request_event(EventOutcome::Delivered) };
        assert_eq!(names(&event), [ACCEPTED, DELIVERED, DESTINATION_MS]);
        assert_eq!(metrics_of(&event)[2].value, 7);
    }

    #[test]
    fn refused_request_is_counted_by_cause() {
        let refused = |code| DeliveryEvent { code: Some(code), ..request_event(EventOutcome::Refused) };
        let dimension = |code| (CAUSE, refusal_cause(code));
        assert_eq!(dimension(ErrorCode::InvalidSignature), (CAUSE, "signature"));
        assert_eq!(dimension(ErrorCode::InvalidField), (CAUSE, "request"));
        assert_eq!(metrics_of(&refused(ErrorCode::InvalidToken))[0].dimension, (CAUSE, "token"));
        assert_eq!(names(&refused(ErrorCode::LoopsKeyRejected)), [REFUSED, LOOPS_KEY_REFUSED]);
        assert!(ErrorCode::VARIANTS.iter().all(|code| REFUSAL_CAUSES.contains(&refusal_cause(*code))));
    }

    #[test]
    fn ignored_event_emits_no_metric() {
        assert!(names(&request_event(EventOutcome::Ignored)).is_empty());
    }

    #[test]
    fn only_a_retry_reports_its_age_to_the_alarm() {
        let aged = |outcome| DeliveryEvent { age: Some(Duration::from_millis(61_900)), ..request_event(outcome) };
        assert_eq!(names(&aged(EventOutcome::Retried)), [RETRIED, AGE_MS, RETRIED_AGE]);
        assert_eq!(metrics_of(&aged(EventOutcome::Retried))[2].value, 61);
        assert_eq!(names(&aged(EventOutcome::Held)), [HELD, AGE_MS]);
    }

    #[test]
    fn unreadable_secret_is_counted_once() {
        assert_eq!(names(&request_event(EventOutcome::SecretUnreadable)), [SECRET_UNREADABLE]);
    }

    #[test]
    fn pool_metrics_have_pool_usage_and_webhook_submissions() {
        let pool = PoolUsageSample { webhook: "ab".to_owned(), submissions: 40_000, used_percent: 80 };
        let stats = CallStats { pool: Some(pool), ..CallStats::default() };
        let event = DeliveryEvent { stats, ..request_event(EventOutcome::Delivered) };
        let metrics = metrics_of(&event);
        assert_eq!(
            (metrics[2].name, metrics[2].value, metrics[2].dimension),
            (POOL_USED, 80, (DIRECTION, "clay-to-loops"))
        );
        assert_eq!((metrics[3].name, metrics[3].value, metrics[3].dimension), (SUBMISSIONS, 40_000, (WEBHOOK, "ab")));
    }
}
