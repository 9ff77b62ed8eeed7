//! `clay-delivery`: the worker that posts stored events to Clay's webhooks, and moves on to the next webhook of the pool
//! when one has taken its 50,000.

use jiff::{SignedDuration, Timestamp};
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::{CallOutcome, Decision, SendPath, decide};
use relay_core::policy::retry;
use relay_core::webhook::payload::PayloadFormat;
use relay_core::webhook::route::ClayWebhook;
use tokio::time::{Duration, Instant};
use tracing::{error, warn};

use crate::delivery::Deliver;
use crate::delivery::pool_usage::PoolUsage;
use crate::delivery::reroute::{Rerouter, webhook_without_route};
use crate::delivery::{defer_unavailable, log_attempt, pin_if_only_failure, reason_for};
use crate::destination::clay::ClayClient;
use crate::ports::clock::Clock;
use crate::ports::queue::Queue;
use crate::ports::rate_limiter::{RateLimiter, Readiness};
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};
use crate::telemetry::event::CallStats;

/// The longest that one post may take.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long Clay is left alone after a 429 that does not say how long (its own answer says one second).
const DEFAULT_THROTTLE: Duration = Duration::from_secs(1);
/// How long a webhook that is gone (404, 410) is passed over; one that is used up (403) stays so.
const GONE_COOLDOWN: SignedDuration = SignedDuration::from_mins(15);

/// The worker.
#[derive(Debug, Clone)]
pub struct ClayDeliverer<S, C, W, P, A, Q> {
    /// The routes.
    pub secrets: S,
    /// Clay's webhooks.
    pub deliverer: C,
    /// What each webhook has taken.
    pub ledger: W,
    /// The rate limiter of Clay, one for the whole workspace.
    pub limiter: P,
    /// Time, random numbers and ids.
    pub clock: A,
    /// What a table gets.
    pub payload: PayloadFormat,
    /// Queue for the deliveries that a redriven event becomes, where it had no route when it arrived.
    pub queue: Q,
}

/// What one pass over a pool came to.
enum PoolResult {
    Finished(AttemptResult),
    /// An operator has to fix it: a rejected token, a pool that is used up or empty.
    NeedsOperator(Reason),
}

impl<S, C, W, P, A, Q> Deliver for ClayDeliverer<S, C, W, P, A, Q>
where
    S: SecretSource<LoopsToClaySecret>,
    C: ClayClient,
    W: WebhookLedger,
    P: RateLimiter,
    A: Clock,
    Q: Queue,
{
    fn readiness(&self) -> Readiness {
        self.limiter.readiness()
    }

    async fn deliver(&self, delivery: &Delivery, history: AttemptHistory) -> AttemptResult {
        if let Some(webhook_id) = webhook_without_route(delivery) {
            let rerouter = Rerouter { secrets: &self.secrets, clock: &self.clock, queue: &self.queue };
            return rerouter.reroute(delivery, webhook_id, history).await;
        }
        let (started_at, mut stats) = (Instant::now(), CallStats::default());
        let result = self.try_deliver(delivery, history, &mut stats).await;
        log_attempt(delivery, history, result, started_at, stats, self.clock.now());
        result
    }
}

impl<S, C, W, P, A, Q> ClayDeliverer<S, C, W, P, A, Q>
where
    S: SecretSource<LoopsToClaySecret>,
    C: ClayClient,
    W: WebhookLedger,
    P: RateLimiter,
    A: Clock,
{
    async fn try_deliver(&self, delivery: &Delivery, history: AttemptHistory, stats: &mut CallStats) -> AttemptResult {
        let Ok(secret) = self.secrets.current().await else {
            return self.secret_unavailable(history);
        };
        let reason = match self.try_pool(delivery, history, &secret, stats).await {
            PoolResult::Finished(result) => return result,
            PoolResult::NeedsOperator(reason) => reason,
        };
        let token_rejected = reason.code == ReasonCode::ClayTokenRejected;
        let hold = |reason| retry::hold(history, reason, self.clock.now());
        let refreshed = match self.secrets.refresh().await {
            Ok(refreshed) => refreshed,
            Err(_) if token_rejected => return self.secret_unavailable(history),
            Err(_) => return hold(reason),
        };
        // A token may have been set anew under the same URL; a pool that is used up needs another URL.
        if !token_rejected && pool_fingerprints(delivery, &secret) == pool_fingerprints(delivery, &refreshed) {
            return hold(reason);
        }
        match self.try_pool(delivery, history, &refreshed, stats).await {
            PoolResult::Finished(result) => result,
            PoolResult::NeedsOperator(reason) => hold(reason),
        }
    }

    /// Tries the webhooks of the delivery's route, one after another, until one answers for the row.
    async fn try_pool(
        &self,
        delivery: &Delivery,
        history: AttemptHistory,
        secret: &LoopsToClaySecret,
        tally: &mut CallStats,
    ) -> PoolResult {
        let DeliveryKind::ClayRow { route, webhook_id } = &delivery.kind else {
            return PoolResult::Finished(AttemptResult::DeadLetter(Reason::without_status(ReasonCode::NoRoute)));
        };
        let pool =
            secret.routes.iter().find(|candidate| candidate.name == *route).map(|route| route.webhooks.as_slice());
        let pool = pool.unwrap_or_default();
        let mut reason = Reason::without_status(ReasonCode::NoWebhook);
        let mut pool_usage = PoolUsage::default();
        for webhook in self.usable_webhooks(pool, &mut pool_usage).await {
            if let Err(unavailable) = self.limiter.acquire().await {
                return PoolResult::Finished(defer_unavailable(unavailable, self.clock.now()));
            }
            let row = self.payload.render(&delivery.body, webhook_id, delivery.received_at);
            let called_at = Instant::now();
            let response = self.deliverer.post(webhook, &delivery.id, row, POST_TIMEOUT).await;
            tally.record(called_at.elapsed());
            self.limiter.record(&response).await;
            reason = reason_for(SendPath::ClayWorker, response.outcome);
            match decide(SendPath::ClayWorker, response.outcome, false) {
                Decision::Delivered | Decision::Duplicate => {
                    self.record_submission(webhook, Submission::Accepted).await;
                    tally.pool = pool_usage.record_accepted(&webhook.fingerprint());
                    return PoolResult::Finished(AttemptResult::Delivered);
                }
                Decision::NextWebhook => {
                    let status = reason.status.unwrap_or_default();
                    warn!(webhook = webhook.fingerprint(), status, "this Clay webhook takes no more rows");
                    self.record_submission(webhook, Submission::Rejected(status)).await;
                    tally.pool = pool_usage.record_rejected(&webhook.fingerprint(), status);
                }
                Decision::RefreshSecret => return PoolResult::NeedsOperator(reason),
                Decision::DeadLetter | Decision::Reject => {
                    return PoolResult::Finished(AttemptResult::DeadLetter(reason));
                }
                Decision::RetryLater | Decision::RetryThenQueue => {
                    if response.outcome == CallOutcome::Responded(429) {
                        self.limiter.throttle_for(response.retry_after.unwrap_or(DEFAULT_THROTTLE)).await;
                    }
                    let retry = self.retry_later(history, reason, response.retry_after);
                    return PoolResult::Finished(pin_if_only_failure(retry, history, &self.limiter, self.clock.now()));
                }
            }
        }
        PoolResult::NeedsOperator(reason)
    }

    /// The webhooks that are not known to refuse; where all are, the last of them, to see whether it still does.
    async fn usable_webhooks<'a>(&self, pool: &'a [ClayWebhook], pool_usage: &mut PoolUsage) -> Vec<&'a ClayWebhook> {
        let now = self.clock.now();
        let mut usable = Vec::new();
        for webhook in pool {
            // A ledger that cannot be read closes no webhook.
            let usage = self.ledger.usage(&webhook.fingerprint()).await;
            pool_usage.add(webhook.fingerprint(), usage.as_ref().ok().copied());
            let usage = usage.unwrap_or_default();
            if !is_unusable(usage, now) {
                usable.push(webhook);
            }
        }
        if usable.is_empty() {
            usable.extend(pool.last());
        }
        usable
    }

    async fn record_submission(&self, webhook: &ClayWebhook, submission: Submission) {
        if let Err(error) = self.ledger.record(&webhook.fingerprint(), submission, self.clock.now()).await {
            error!(webhook = webhook.fingerprint(), error = %error, "the use of a Clay webhook was not counted");
        }
    }

    fn secret_unavailable(&self, history: AttemptHistory) -> AttemptResult {
        self.retry_later(history, Reason::without_status(ReasonCode::SecretUnavailable), None)
    }

    fn retry_later(&self, history: AttemptHistory, reason: Reason, retry_after: Option<Duration>) -> AttemptResult {
        retry::retry_or_dead_letter(history, reason, retry_after, self.clock.now(), self.clock.random())
    }
}

/// What is known of the pool of a delivery's route, to see whether it has changed.
fn pool_fingerprints(delivery: &Delivery, secret: &LoopsToClaySecret) -> Vec<String> {
    let DeliveryKind::ClayRow { route, .. } = &delivery.kind else { return Vec::new() };
    let routes = secret.routes.iter().filter(|known| known.name == *route);
    routes.flat_map(|route| route.webhooks.iter().map(ClayWebhook::fingerprint)).collect()
}

fn is_unusable(usage: WebhookUsage, now: Timestamp) -> bool {
    match usage.rejected {
        Some((_, 403)) => true,
        Some((at, _)) => now.duration_since(at) < GONE_COOLDOWN,
        None => false,
    }
}
