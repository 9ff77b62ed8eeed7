//! `loops-delivery`: the worker that sends stored rows to Loops.

use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::{CallOutcome, Decision, SendPath, decide};
use relay_core::policy::retry;
use tokio::time::{Duration, Instant};

use crate::delivery::outcome::{defer_unavailable, log_attempt, pin_if_only_failure, reason_for};
use crate::destination::loops::{LoopsApi, LoopsCall};
use crate::ingress::sync_send::FULL_PAUSE;
use crate::ports::clock::Clock;
use crate::ports::queue::Deliver;
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};
use crate::rate_limit::limiter::{RateLimiter, Readiness};
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
    /// The pace of calls to Loops, shared with the direct lane.
    pub pace: P,
    /// Time and chance.
    pub ambient: A,
}

impl<S, L, P, A> Deliver for LoopsDeliverer<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    P: RateLimiter,
    A: Clock,
{
    fn readiness(&self) -> Readiness {
        self.pace.readiness()
    }

    async fn attempt(&self, delivery: &Delivery, history: AttemptHistory) -> AttemptResult {
        let (begun, mut tally) = (Instant::now(), CallStats::default());
        let end = self.try_once(delivery, history, &mut tally).await;
        log_attempt(delivery, history, end, begun, tally, self.ambient.now());
        end
    }
}

impl<S, L, P, A> LoopsDeliverer<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    P: RateLimiter,
    A: Clock,
{
    async fn try_once(&self, delivery: &Delivery, history: AttemptHistory, tally: &mut CallStats) -> AttemptResult {
        let event = matches!(delivery.kind, DeliveryKind::LoopsEvent { .. });
        let Ok(mut secret) = self.secrets.current().await else {
            return self.unreadable(history);
        };
        let mut reread = false;
        loop {
            let Some(api_key) = &secret.api_key else {
                if !reread && let Ok(filled_in) = self.secrets.refresh().await {
                    (reread, secret) = (true, filled_in);
                    continue;
                }
                return retry::hold(history, Reason::without_status(ReasonCode::NotConfigured), self.ambient.now());
            };
            if let Err(left_alone) = self.pace.acquire().await {
                return defer_unavailable(left_alone, self.ambient.now());
            }
            let Delivery { id, kind: cargo, body, .. } = delivery;
            let asked = Instant::now();
            let answer = self.loops.call(LoopsCall { delivery: id, cargo, body, api_key, timeout: CALL_TIMEOUT }).await;
            tally.note(asked.elapsed());
            self.pace.record(&answer).await;
            let reason = reason_for(SendPath::LoopsWorker, answer.outcome);
            match decide(SendPath::LoopsWorker, answer.outcome, event) {
                decision @ (Decision::Delivered | Decision::Duplicate) => {
                    tally.duplicate = decision == Decision::Duplicate;
                    return AttemptResult::Delivered;
                }
                Decision::RefreshSecretThen(_) if !reread => {
                    reread = true;
                    secret = match self.secrets.refresh().await {
                        Ok(secret) => secret,
                        Err(_) => return self.unreadable(history),
                    };
                }
                Decision::RefreshSecretThen(_) => return retry::hold(history, reason, self.ambient.now()),
                Decision::DeadLetter | Decision::Reject | Decision::NextWebhook => {
                    return AttemptResult::DeadLetter(reason);
                }
                Decision::RetryLater | Decision::RetryThenQueue => {
                    if answer.outcome == CallOutcome::Answered(429) {
                        self.pace.throttle_for(answer.retry_after.unwrap_or(FULL_PAUSE)).await;
                    }
                    let later = self.later(history, reason, answer.retry_after);
                    return pin_if_only_failure(later, history, &self.pace, self.ambient.now());
                }
            }
        }
    }
}

impl<S, L, P, A: Clock> LoopsDeliverer<S, L, P, A> {
    fn unreadable(&self, history: AttemptHistory) -> AttemptResult {
        self.later(history, Reason::without_status(ReasonCode::SecretUnavailable), None)
    }

    fn later(&self, history: AttemptHistory, reason: Reason, asked: Option<Duration>) -> AttemptResult {
        retry::retry_or_dead_letter(history, reason, asked, self.ambient.now(), self.ambient.random())
    }
}
