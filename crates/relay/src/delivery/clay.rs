//! The deliverer to Clay: one attempt at a stored event. When a webhook has accepted its 50,000 rows, it moves on to
//! the next one of the pool.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relay_core::delivery::{
    AttemptHistory, AttemptResult, Delivery, DeliveryKind, FinishedAttempt, Reason, ReasonCode,
};
use relay_core::policy::response::{Decision, SendPath, decide};
use relay_core::policy::retry;
use relay_core::webhook::payload::PayloadFormat;
use relay_core::webhook::route::ClayWebhook;
use tokio::time::{Duration, Instant};
use tracing::{error, warn};

use crate::delivery::pool_usage::PoolUsage;
use crate::delivery::reroute::{reroute, webhook_without_route};
use crate::delivery::{
    Deliver, OTHER_DESTINATION, defer_unavailable, log_attempt, reason_for, record_call, retry_after_response,
    secret_unavailable,
};
use crate::destination::clay::ClayClient;
use crate::ports::clock::SharedClock;
use crate::ports::queue::Queue;
use crate::ports::rate_limiter::{RateLimiter, Readiness};
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};
use crate::telemetry::event::{CallStats, PoolUsageSample};

const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a webhook that is gone (404, 410) is skipped. One that is used up (403) stays so.
const GONE_COOLDOWN: SignedDuration = SignedDuration::from_mins(15);

/// Attempts deliveries to Clay.
#[derive(Debug, Clone)]
pub struct ClayDeliverer<S, C, W, P, Q> {
    /// The routes.
    pub secrets: S,
    /// Clay's webhooks.
    pub clay: C,
    /// Usage of each webhook.
    pub ledger: W,
    /// The rate limiter of Clay, one for the whole workspace.
    pub limiter: Arc<P>,
    /// Time, random numbers and ids.
    pub clock: SharedClock,
    /// Form of a row.
    pub payload: PayloadFormat,
    /// Queue for the deliveries that a redriven event without a route becomes.
    pub queue: Q,
}

impl<S, C, W, P, Q> Deliver for ClayDeliverer<S, C, W, P, Q>
where
    S: SecretSource<LoopsToClaySecret>,
    C: ClayClient,
    W: WebhookLedger,
    P: RateLimiter,
    Q: Queue,
{
    fn readiness(&self) -> Readiness {
        self.limiter.readiness()
    }

    async fn end_batch(&self) {
        if let Err(error) = self.ledger.flush(self.clock.now()).await {
            error!(%error, "the use of a Clay webhook is not counted yet");
        }
    }

    async fn deliver(&self, delivery: &Delivery, history: AttemptHistory) -> FinishedAttempt {
        if let Some(webhook_id) = webhook_without_route(delivery) {
            return reroute(delivery, webhook_id, history, &self.secrets, &self.queue, &self.clock).await.into();
        }
        let (started_at, mut stats) = (Instant::now(), CallStats::default());
        let result = self.try_deliver(delivery, history, &mut stats).await;
        log_attempt(delivery, history, result, started_at, stats, self.clock.now());
        result.into()
    }
}

impl<S: SecretSource<LoopsToClaySecret>, C: ClayClient, W: WebhookLedger, P: RateLimiter, Q>
    ClayDeliverer<S, C, W, P, Q>
{
    async fn try_deliver(&self, delivery: &Delivery, history: AttemptHistory, stats: &mut CallStats) -> AttemptResult {
        let Ok(secret) = self.secrets.current().await else {
            return secret_unavailable(history, &self.clock);
        };
        let reason = match self.try_pool(delivery, history, &secret, stats).await {
            Ok(result) => return result,
            Err(reason) => reason,
        };
        let token_rejected = reason.code == ReasonCode::ClayTokenRejected;
        let hold = |reason| retry::hold(history, reason, self.clock.now());
        let refreshed = match self.secrets.refresh().await {
            Ok(refreshed) => refreshed,
            Err(_) if token_rejected => return secret_unavailable(history, &self.clock),
            Err(_) => return hold(reason),
        };
        // A token can be replaced under the same URL, but a pool that is used up needs another URL.
        if !token_rejected && pool_fingerprints(delivery, &secret) == pool_fingerprints(delivery, &refreshed) {
            return hold(reason);
        }
        self.try_pool(delivery, history, &refreshed, stats).await.unwrap_or_else(hold)
    }

    /// Tries the webhooks of the delivery's route, one after another, until one accepts the row or fails. The error is a
    /// reason that an operator has to fix: a rejected token, a pool that is used up or empty.
    async fn try_pool(
        &self,
        delivery: &Delivery,
        history: AttemptHistory,
        secret: &LoopsToClaySecret,
        stats: &mut CallStats,
    ) -> Result<AttemptResult, Reason> {
        let DeliveryKind::ClayRow { route, webhook_id } = &delivery.kind else {
            return Ok(AttemptResult::DeadLetter(Reason::without_status(ReasonCode::NoRoute)));
        };
        if delivery.account() != secret.account {
            return Ok(OTHER_DESTINATION);
        }
        let mut reason = Reason::without_status(ReasonCode::NoWebhook);
        let mut pool_usage = PoolUsage::default();
        for webhook in self.usable_webhooks(secret.pool(route), &mut pool_usage).await {
            if let Err(unavailable) = self.limiter.acquire().await {
                return Ok(defer_unavailable(unavailable, self.clock.now()));
            }
            let row = self.payload.render(&delivery.body, webhook_id, delivery.received_at);
            let call = self.clay.post(webhook, &delivery.id, row, POST_TIMEOUT);
            let response = record_call(call, &*self.limiter, stats).await;
            reason = reason_for(SendPath::ClayWorker, &response);
            match decide(SendPath::ClayWorker, response.outcome, &delivery.kind) {
                Decision::Delivered | Decision::Duplicate => {
                    stats.pool = self.record_submission(webhook, Submission::Accepted, &mut pool_usage).await;
                    return Ok(AttemptResult::Delivered);
                }
                Decision::NextWebhook => {
                    let status = reason.status.unwrap_or_default();
                    warn!(webhook = webhook.fingerprint(), status, "this Clay webhook takes no more rows");
                    stats.pool = self.record_submission(webhook, Submission::Rejected(status), &mut pool_usage).await;
                }
                Decision::RefreshSecret => return Err(reason),
                Decision::DeadLetter | Decision::Reject => return Ok(AttemptResult::DeadLetter(reason)),
                Decision::RetryLater | Decision::RetryThenQueue => {
                    return Ok(retry_after_response(&response, history, reason, &*self.limiter, &self.clock).await);
                }
            }
        }
        Err(reason)
    }

    /// Returns the webhooks that are not known to reject rows; if all are, the last of them, to see whether it still does.
    async fn usable_webhooks<'a>(&self, pool: &'a [ClayWebhook], pool_usage: &mut PoolUsage) -> Vec<&'a ClayWebhook> {
        let now = self.clock.now();
        let mut usable = Vec::new();
        for webhook in pool {
            // A ledger that cannot be read closes no webhook.
            let usage = self.ledger.usage(&webhook.fingerprint()).await;
            pool_usage.add(webhook.fingerprint(), usage.as_ref().ok().copied());
            if !is_unusable(usage.unwrap_or_default(), now) {
                usable.push(webhook);
            }
        }
        if usable.is_empty() {
            usable.extend(pool.last());
        }
        usable
    }

    async fn record_submission(
        &self,
        webhook: &ClayWebhook,
        submission: Submission,
        pool_usage: &mut PoolUsage,
    ) -> Option<PoolUsageSample> {
        let webhook = webhook.fingerprint();
        if let Err(error) = self.ledger.record(&webhook, submission, self.clock.now()).await {
            error!(webhook, %error, "the use of a Clay webhook was not counted");
        }
        pool_usage.record(&webhook, submission)
    }
}

/// Returns what identifies the pool of a delivery's route, to see whether the pool has changed.
fn pool_fingerprints(delivery: &Delivery, secret: &LoopsToClaySecret) -> Vec<String> {
    let DeliveryKind::ClayRow { route, .. } = &delivery.kind else { return Vec::new() };
    secret.pool(route).iter().map(ClayWebhook::fingerprint).collect()
}

fn is_unusable(usage: WebhookUsage, now: Timestamp) -> bool {
    usage.rejected.is_some_and(|(at, status)| status == 403 || now.duration_since(at) < GONE_COOLDOWN)
}
