//! `loops-delivery`: the worker that sends stored rows to Loops.

use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::{CallOutcome, Decision, SendPath, decide};
use relay_core::policy::retry;
use tokio::time::{Duration, Instant};

use crate::delivery::Deliver;
use crate::delivery::{defer_unavailable, log_attempt, pin_if_only_failure, reason_for};
use crate::destination::loops::{LoopsClient, LoopsRequest};
use crate::ingress::sync_send::DEFAULT_THROTTLE;
use crate::ports::clock::Clock;
use crate::ports::rate_limiter::{RateLimiter, Readiness};
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};
use crate::telemetry::event::CallStats;

/// The longest that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The worker.
#[derive(Debug, Clone)]
pub struct LoopsDeliverer<S, L, P, A> {
    /// The Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The rate limiter of Loops, shared with the fast path.
    pub limiter: P,
    /// Time, random numbers and ids.
    pub clock: A,
}

impl<S, L, P, A> Deliver for LoopsDeliverer<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsClient,
    P: RateLimiter,
    A: Clock,
{
    fn readiness(&self) -> Readiness {
        self.limiter.readiness()
    }

    async fn deliver(&self, delivery: &Delivery, history: AttemptHistory) -> AttemptResult {
        let (started_at, mut stats) = (Instant::now(), CallStats::default());
        let result = self.try_deliver(delivery, history, &mut stats).await;
        log_attempt(delivery, history, result, started_at, stats, self.clock.now());
        result
    }
}

impl<S, L, P, A> LoopsDeliverer<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsClient,
    P: RateLimiter,
    A: Clock,
{
    async fn try_deliver(&self, delivery: &Delivery, history: AttemptHistory, stats: &mut CallStats) -> AttemptResult {
        let is_event = matches!(delivery.kind, DeliveryKind::LoopsEvent { .. });
        let Ok(mut secret) = self.secrets.current().await else {
            return self.secret_unavailable(history);
        };
        let mut refreshed = false;
        loop {
            let Some(api_key) = &secret.api_key else {
                if !refreshed && let Ok(refreshed_secret) = self.secrets.refresh().await {
                    (refreshed, secret) = (true, refreshed_secret);
                    continue;
                }
                return retry::hold(history, Reason::without_status(ReasonCode::NotConfigured), self.clock.now());
            };
            if let Err(unavailable) = self.limiter.acquire().await {
                return defer_unavailable(unavailable, self.clock.now());
            }
            let Delivery { id, kind, body, .. } = delivery;
            let called_at = Instant::now();
            let response =
                self.loops.send(LoopsRequest { delivery_id: id, kind, body, api_key, timeout: CALL_TIMEOUT }).await;
            stats.record(called_at.elapsed());
            self.limiter.record(&response).await;
            let reason = reason_for(SendPath::LoopsWorker, response.outcome);
            match decide(SendPath::LoopsWorker, response.outcome, is_event) {
                decision @ (Decision::Delivered | Decision::Duplicate) => {
                    stats.duplicate = decision == Decision::Duplicate;
                    return AttemptResult::Delivered;
                }
                Decision::RefreshSecret if !refreshed => {
                    refreshed = true;
                    secret = match self.secrets.refresh().await {
                        Ok(secret) => secret,
                        Err(_) => return self.secret_unavailable(history),
                    };
                }
                Decision::RefreshSecret => return retry::hold(history, reason, self.clock.now()),
                Decision::DeadLetter | Decision::Reject | Decision::NextWebhook => {
                    return AttemptResult::DeadLetter(reason);
                }
                Decision::RetryLater | Decision::RetryThenQueue => {
                    if response.outcome == CallOutcome::Responded(429) {
                        self.limiter.throttle_for(response.retry_after.unwrap_or(DEFAULT_THROTTLE)).await;
                    }
                    let retry = self.retry_later(history, reason, response.retry_after);
                    return pin_if_only_failure(retry, history, &self.limiter, self.clock.now());
                }
            }
        }
    }
}

impl<S, L, P, A: Clock> LoopsDeliverer<S, L, P, A> {
    fn secret_unavailable(&self, history: AttemptHistory) -> AttemptResult {
        self.retry_later(history, Reason::without_status(ReasonCode::SecretUnavailable), None)
    }

    fn retry_later(&self, history: AttemptHistory, reason: Reason, retry_after: Option<Duration>) -> AttemptResult {
        retry::retry_or_dead_letter(history, reason, retry_after, self.clock.now(), self.clock.random())
    }
}
