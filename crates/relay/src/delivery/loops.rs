//! The deliverer to Loops: one attempt at a stored row.

use std::sync::Arc;

use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, FinishedAttempt, Reason, ReasonCode};
use relay_core::policy::response::{Decision, SendPath, decide};
use relay_core::policy::retry;
use relay_core::secret::SecretString;
use tokio::time::{Duration, Instant};

use crate::delivery::{
    Deliver, OTHER_DESTINATION, defer_unavailable, log_attempt, reason_for, record_call, retry_after_response,
    retry_later, secret_unavailable,
};
use crate::destination::loops::{LoopsClient, error_message};
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::{RateLimiter, Readiness};
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};
use crate::telemetry::event::CallStats;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts deliveries to Loops.
#[derive(Debug, Clone)]
pub struct LoopsDeliverer<S, L, P> {
    /// The Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The rate limiter of Loops, shared with the fast path.
    pub limiter: Arc<P>,
    /// Time, random numbers and ids.
    pub clock: SharedClock,
}

impl<S: SecretSource<ClayToLoopsSecret>, L: LoopsClient, P: RateLimiter> Deliver for LoopsDeliverer<S, L, P> {
    fn readiness(&self) -> Readiness {
        self.limiter.readiness()
    }

    async fn deliver(&self, delivery: &Delivery, history: AttemptHistory) -> FinishedAttempt {
        let (started_at, began_at, mut stats) = (Instant::now(), self.clock.now(), CallStats::default());
        let has_key = delivery.kind.idempotency_key().is_some();
        let mut message = None;
        let result = if has_key && retry::is_resend_unsafe(history.unknown_since, began_at) {
            AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OutcomeUnknown))
        } else {
            self.try_deliver(delivery, history, &mut stats, &mut message).await
        };
        let (outcome_unknown, duplicate) = (has_key && stats.outcome_unknown, stats.duplicate);
        log_attempt(delivery, history, result, started_at, stats, self.clock.now());
        FinishedAttempt { duplicate, message, ..FinishedAttempt::new(result, history, began_at, outcome_unknown) }
    }
}

impl<S: SecretSource<ClayToLoopsSecret>, L: LoopsClient, P: RateLimiter> LoopsDeliverer<S, L, P> {
    async fn try_deliver(
        &self,
        delivery: &Delivery,
        history: AttemptHistory,
        stats: &mut CallStats,
        message: &mut Option<String>,
    ) -> AttemptResult {
        let Ok(mut secret) = self.secrets.current().await else {
            return secret_unavailable(history, &self.clock);
        };
        let mut refreshed = false;
        loop {
            let api_key = match self.key_for(delivery, history, &secret) {
                Ok(api_key) => api_key,
                // The secret may have been changed a moment ago.
                Err(result) if refreshed => return result,
                Err(result) => match self.secrets.refresh().await {
                    Ok(refreshed_secret) => {
                        (refreshed, secret) = (true, refreshed_secret);
                        continue;
                    }
                    Err(_) => return result,
                },
            };
            if let Err(unavailable) = self.limiter.acquire().await {
                return defer_unavailable(unavailable, self.clock.now());
            }
            let response = record_call(self.loops.send(delivery, api_key, CALL_TIMEOUT), &*self.limiter, stats).await;
            let reason = reason_for(SendPath::LoopsWorker, &response);
            match decide(SendPath::LoopsWorker, response.outcome, &delivery.kind) {
                decision @ (Decision::Delivered | Decision::Duplicate) => {
                    stats.duplicate = decision == Decision::Duplicate;
                    return AttemptResult::Delivered;
                }
                Decision::RefreshSecret if !refreshed => {
                    let Ok(refreshed_secret) = self.secrets.refresh().await else {
                        return secret_unavailable(history, &self.clock);
                    };
                    (refreshed, secret) = (true, refreshed_secret);
                }
                Decision::RefreshSecret => return retry::hold(history, reason, self.clock.now()),
                Decision::DeadLetter | Decision::Reject | Decision::NextWebhook => {
                    *message = error_message(&response.body).map(|message| delivery.redact_identity(&message));
                    return AttemptResult::DeadLetter(reason);
                }
                Decision::RetryLater | Decision::RetryThenQueue => {
                    return retry_after_response(&response, history, reason, &*self.limiter, &self.clock).await;
                }
            }
        }
    }

    /// Returns the key to send a delivery with, or the result for one that must not be sent with the secret's.
    fn key_for<'a>(
        &self,
        delivery: &Delivery,
        history: AttemptHistory,
        secret: &'a ClayToLoopsSecret,
    ) -> Result<&'a SecretString, AttemptResult> {
        let hold = |reason| retry::hold(history, reason, self.clock.now());
        let Some(api_key) = &secret.api_key else {
            return Err(hold(Reason::without_status(ReasonCode::NotConfigured)));
        };
        match secret.account.doubt {
            Some(code @ ReasonCode::LoopsKeyRejected) => Err(hold(Reason { code, status: Some(401) })),
            Some(code) => Err(retry_later(history, Reason::without_status(code), None, &self.clock)),
            None if secret.account.id != delivery.account() => Err(OTHER_DESTINATION),
            None => Ok(api_key),
        }
    }
}
