//! A worker's attempt at one delivery, and how its result is called.

pub mod clay;
pub mod loops;
pub(crate) mod pool_usage;
mod reroute;

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, FinishedAttempt, Reason, ReasonCode};
use relay_core::policy::response::{self, SendPath};
use relay_core::policy::retry;
use tokio::time::Instant;

use crate::destination::http_client::DestinationResponse;
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::{RateLimiter, Readiness, Unavailable};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome};

/// What a queue's worker needs to know of an attempt.
pub trait Deliver: Send + Sync {
    /// Tries a delivery once and returns what its queue does with it.
    fn deliver(&self, delivery: &Delivery, history: AttemptHistory) -> impl Future<Output = FinishedAttempt> + Send;

    /// Whether the destination can be called now.
    fn readiness(&self) -> Readiness;

    /// Ends a batch of deliveries: what was recorded for all of them together is stored.
    fn end_batch(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Result for a delivery that was taken for another account than the one it would go to now.
pub(crate) const OTHER_DESTINATION: AttemptResult =
    AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OtherDestination));

/// Waits for the response to a call, and records both.
pub(crate) async fn record_call(
    call: impl Future<Output = DestinationResponse>,
    limiter: &impl RateLimiter,
    stats: &mut CallStats,
) -> DestinationResponse {
    let called_at = Instant::now();
    let response = call.await;
    stats.calls = stats.calls.saturating_add(1);
    stats.outcome_unknown |= response.outcome.is_unknown();
    stats.last_call_duration = Some(called_at.elapsed());
    limiter.record(&response).await;
    response
}

/// Returns the reason for a response that did not deliver.
pub(crate) const fn reason_for(path: SendPath, response: &DestinationResponse) -> Reason {
    Reason { code: response::reason_for(path, response.outcome), status: response.status() }
}

/// Returns the result for a delivery whose destination is not called now: a retry when it may be.
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

/// Returns the result for a delivery that failed for now.
pub(crate) fn retry_later(
    history: AttemptHistory,
    reason: Reason,
    retry_after: Option<Duration>,
    clock: &SharedClock,
) -> AttemptResult {
    retry::retry_or_dead_letter(history, reason, retry_after, clock.now(), clock.random())
}

/// Returns the result for a delivery whose secret cannot be read.
pub(crate) fn secret_unavailable(history: AttemptHistory, clock: &SharedClock) -> AttemptResult {
    retry_later(history, Reason::without_status(ReasonCode::SecretUnavailable), None, clock)
}

/// Returns the result for a delivery that its destination has not accepted for now. A 429 throttles the destination.
///
/// If the destination has accepted other deliveries since this one first failed, it is not what fails. That others succeed is
/// then no reason to try this one early.
pub(crate) async fn retry_after_response(
    response: &DestinationResponse,
    history: AttemptHistory,
    reason: Reason,
    limiter: &impl RateLimiter,
    clock: &SharedClock,
) -> AttemptResult {
    if let Some(throttle) = response.throttle() {
        limiter.throttle_for(throttle).await;
    }
    let mut result = retry_later(history, reason, response.retry_after, clock);
    if let (AttemptResult::RetryAt { no_early_retry, .. }, Some(since)) = (&mut result, history.failing_since) {
        let failing_for = clock.now().duration_since(since).try_into().unwrap_or_default();
        *no_early_retry |= limiter.succeeded_within(failing_for);
    }
    result
}

/// Emits the event of a worker's attempt.
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
    DeliveryEvent {
        reason,
        attempts: history.attempts.saturating_add(1),
        duration: started_at.elapsed(),
        age: now.duration_since(delivery.received_at).try_into().ok(),
        stats,
        ..DeliveryEvent::for_delivery(delivery, outcome)
    }
    .emit();
}
