//! What a far end's answer is called when it did not deliver.

use jiff::Timestamp;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, Reason, ReasonCode};
use relay_core::policy::response::{self, CallOutcome, SendPath};
use relay_core::policy::retry;
use tokio::time::Instant;

use crate::rate_limit::limiter::{RateLimiter, Unavailable};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome};

/// The reason that an outcome is, in a lane.
pub(crate) fn reason_for(lane: SendPath, outcome: CallOutcome) -> Reason {
    let status = match outcome {
        CallOutcome::Answered(status) => Some(status),
        CallOutcome::TimedOut | CallOutcome::Unreachable | CallOutcome::CertificateUntrusted => None,
    };
    Reason { code: response::reason_for(lane, outcome), status }
}

/// What becomes of a delivery whose far end is left alone: it comes back when that is over.
pub(crate) fn defer_unavailable(left_alone: Unavailable, now: Timestamp) -> AttemptResult {
    let (left, code, firm) = match left_alone {
        Unavailable::Throttled(left) => (left, ReasonCode::DestinationThrottled, true),
        Unavailable::CircuitOpen(left) => (left, ReasonCode::DestinationFailed, false),
    };
    AttemptResult::RetryAt {
        at: retry::add_saturating(now, left),
        reason: Reason::without_status(code),
        no_early_retry: firm,
    }
}

/// The same, at a firm time where the far end has taken others since this one first failed: then it is not the end that
/// fails, and that others get through says nothing of this one.
pub(crate) fn pin_if_only_failure(
    end: AttemptResult,
    history: AttemptHistory,
    pace: &impl RateLimiter,
    now: Timestamp,
) -> AttemptResult {
    let failing_for = history.failing_since.map(|since| now.duration_since(since).try_into().unwrap_or_default());
    match end {
        AttemptResult::RetryAt { at, reason, no_early_retry: firm } => {
            let alone = failing_for.is_some_and(|period| pace.succeeded_within(period));
            AttemptResult::RetryAt { at, reason, no_early_retry: firm || alone }
        }
        other => other,
    }
}

/// Tells how a worker's attempt ended.
pub(crate) fn log_attempt(
    delivery: &Delivery,
    history: AttemptHistory,
    end: AttemptResult,
    begun: Instant,
    tally: CallStats,
    now: Timestamp,
) {
    let (became, reason) = match end {
        AttemptResult::Delivered if tally.duplicate => (EventOutcome::Duplicate, None),
        AttemptResult::Delivered => (EventOutcome::Delivered, None),
        AttemptResult::DeadLetter(reason) => (EventOutcome::Dead, Some(reason)),
        AttemptResult::RetryAt { reason, .. } => (EventOutcome::Retried, Some(reason)),
        AttemptResult::HoldUntil { reason, .. } => (EventOutcome::Held, Some(reason)),
    };
    let age = now.duration_since(delivery.received_at).try_into().ok();
    let attempts = history.attempts.saturating_add(1);
    DeliveryEvent {
        reason,
        attempts,
        duration: begun.elapsed(),
        age,
        tally,
        ..DeliveryEvent::for_delivery(delivery, became)
    }
    .emit();
}
