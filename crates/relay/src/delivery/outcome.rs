//! What a far end's answer is called when it did not deliver.

use jiff::Timestamp;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, Reason, ReasonCode};
use relay_core::policy::response::{self, CallOutcome, SendPath};
use relay_core::policy::retry;
use tokio::time::Instant;

use crate::rate_limit::limiter::{RateLimiter, Unavailable};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome};

/// The reason that an outcome is, in a lane.
pub(crate) fn reason_for(path: SendPath, outcome: CallOutcome) -> Reason {
    let status = match outcome {
        CallOutcome::Responded(status) => Some(status),
        CallOutcome::TimedOut | CallOutcome::Unreachable | CallOutcome::CertificateUntrusted => None,
    };
    Reason { code: response::reason_for(path, outcome), status }
}

/// What becomes of a delivery whose far end is left alone: it comes back when that is over.
pub(crate) fn defer_unavailable(unavailable: Unavailable, now: Timestamp) -> AttemptResult {
    let (retry_in, code, no_early_retry) = match unavailable {
        Unavailable::Throttled(retry_in) => (retry_in, ReasonCode::DestinationThrottled, true),
        Unavailable::CircuitOpen(retry_in) => (retry_in, ReasonCode::DestinationFailed, false),
    };
    AttemptResult::RetryAt {
        at: retry::add_saturating(now, retry_in),
        reason: Reason::without_status(code),
        no_early_retry,
    }
}

/// The same, at a firm time where the far end has taken others since this one first failed: then it is not the end that
/// fails, and that others get through says nothing of this one.
pub(crate) fn pin_if_only_failure(
    result: AttemptResult,
    history: AttemptHistory,
    limiter: &impl RateLimiter,
    now: Timestamp,
) -> AttemptResult {
    let failing_for = history.failing_since.map(|since| now.duration_since(since).try_into().unwrap_or_default());
    match result {
        AttemptResult::RetryAt { at, reason, no_early_retry } => {
            let only_failure = failing_for.is_some_and(|period| limiter.succeeded_within(period));
            AttemptResult::RetryAt { at, reason, no_early_retry: no_early_retry || only_failure }
        }
        other => other,
    }
}

/// Tells how a worker's attempt ended.
pub(crate) fn log_attempt(
    delivery: &Delivery,
    history: AttemptHistory,
    result: AttemptResult,
    started_at: Instant,
    stats: CallStats,
    now: Timestamp,
) {
    let (outcome, reason) = match result {
        AttemptResult::Delivered if stats.duplicate => (EventOutcome::Duplicate, None),
        AttemptResult::Delivered => (EventOutcome::Delivered, None),
        AttemptResult::DeadLetter(reason) => (EventOutcome::DeadLettered, Some(reason)),
        AttemptResult::RetryAt { reason, .. } => (EventOutcome::Retried, Some(reason)),
        AttemptResult::HoldUntil { reason, .. } => (EventOutcome::Held, Some(reason)),
    };
    let age = now.duration_since(delivery.received_at).try_into().ok();
    let attempts = history.attempts.saturating_add(1);
    DeliveryEvent {
        reason,
        attempts,
        duration: started_at.elapsed(),
        age,
        stats,
        ..DeliveryEvent::for_delivery(delivery, outcome)
    }
    .emit();
}
