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

use crate::delivery::outcome::{defer_unavailable, log_attempt, pin_if_only_failure, reason_for};
use crate::delivery::pool_usage::PoolUsage;
use crate::delivery::reroute::{Rerouter, webhook_without_route};
use crate::destination::clay::ClayClient;
use crate::ports::clock::Clock;
use crate::ports::queue::{Deliver, Queue, Submission, WebhookLedger, WebhookUsage};
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::rate_limit::limiter::{RateLimiter, Readiness};
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
    pub clay: C,
    /// What each webhook has taken.
    pub ledger: W,
    /// The pace of calls to Clay, one for the whole workspace.
    pub pace: P,
    /// Time and chance.
    pub ambient: A,
    /// What a table gets.
    pub payload: PayloadFormat,
    /// Queue for the deliveries that a redriven event becomes, where it had no route when it arrived.
    pub queue: Q,
}

/// What one pass over a pool came to.
enum PoolResult {
    Ended(AttemptResult),
    /// A person has to mend it: a refused token, a pool that is used up or empty.
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
        self.pace.readiness()
    }

    async fn attempt(&self, delivery: &Delivery, history: AttemptHistory) -> AttemptResult {
        if let Some(webhook_id) = webhook_without_route(delivery) {
            let rerouter = Rerouter { secrets: &self.secrets, clock: &self.ambient, queue: &self.queue };
            return rerouter.reroute(delivery, webhook_id, history).await;
        }
        let (begun, mut tally) = (Instant::now(), CallStats::default());
        let end = self.try_once(delivery, history, &mut tally).await;
        log_attempt(delivery, history, end, begun, tally, self.ambient.now());
        end
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
    async fn try_once(&self, delivery: &Delivery, history: AttemptHistory, tally: &mut CallStats) -> AttemptResult {
        let Ok(secret) = self.secrets.current().await else {
            return self.secret_unavailable(history);
        };
        let reason = match self.try_pool(delivery, history, &secret, tally).await {
            PoolResult::Ended(disposition) => return disposition,
            PoolResult::NeedsOperator(reason) => reason,
        };
        let refused = reason.code == ReasonCode::ClayTokenRejected;
        let hold = |reason| retry::hold(history, reason, self.ambient.now());
        let mended = match self.secrets.refresh().await {
            Ok(mended) => mended,
            Err(_) if refused => return self.secret_unavailable(history),
            Err(_) => return hold(reason),
        };
        // A token may have been set anew under the same URL; a pool that is used up needs another URL.
        if !refused && pool(delivery, &secret) == pool(delivery, &mended) {
            return hold(reason);
        }
        match self.try_pool(delivery, history, &mended, tally).await {
            PoolResult::Ended(disposition) => disposition,
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
            return PoolResult::Ended(AttemptResult::DeadLetter(Reason::without_status(ReasonCode::NoRoute)));
        };
        let pool = secret.routes.iter().find(|known| known.name == *route).map(|route| route.webhooks.as_slice());
        let pool = pool.unwrap_or_default();
        let mut reason = Reason::without_status(ReasonCode::NoWebhook);
        let mut count = PoolUsage::default();
        for webhook in self.usable_webhooks(pool, &mut count).await {
            if let Err(left_alone) = self.pace.acquire().await {
                return PoolResult::Ended(defer_unavailable(left_alone, self.ambient.now()));
            }
            let row = self.payload.render(&delivery.body, webhook_id, delivery.received_at);
            let asked = Instant::now();
            let answer = self.clay.post(webhook, &delivery.id, row, POST_TIMEOUT).await;
            tally.note(asked.elapsed());
            self.pace.record(&answer).await;
            reason = reason_for(SendPath::ClayWorker, answer.outcome);
            match decide(SendPath::ClayWorker, answer.outcome, false) {
                Decision::Delivered | Decision::Duplicate => {
                    self.note(webhook, Submission::Taken).await;
                    tally.pool = count.record_accepted(&webhook.fingerprint());
                    return PoolResult::Ended(AttemptResult::Delivered);
                }
                Decision::NextWebhook => {
                    let status = reason.status.unwrap_or_default();
                    warn!(webhook = webhook.fingerprint(), status, "this Clay webhook takes no more rows");
                    self.note(webhook, Submission::Refused(status)).await;
                    tally.pool = count.record_rejected(&webhook.fingerprint(), status);
                }
                Decision::RefreshSecretThen(_) => return PoolResult::NeedsOperator(reason),
                Decision::DeadLetter | Decision::Reject => return PoolResult::Ended(AttemptResult::DeadLetter(reason)),
                Decision::RetryLater | Decision::RetryThenQueue => {
                    if answer.outcome == CallOutcome::Answered(429) {
                        self.pace.throttle_for(answer.retry_after.unwrap_or(DEFAULT_THROTTLE)).await;
                    }
                    let later = self.later(history, reason, answer.retry_after);
                    return PoolResult::Ended(pin_if_only_failure(later, history, &self.pace, self.ambient.now()));
                }
            }
        }
        PoolResult::NeedsOperator(reason)
    }

    /// The webhooks that are not known to refuse; where all are, the last of them, to see whether it still does.
    async fn usable_webhooks<'a>(&self, pool: &'a [ClayWebhook], count: &mut PoolUsage) -> Vec<&'a ClayWebhook> {
        let now = self.ambient.now();
        let mut open = Vec::new();
        for webhook in pool {
            // A ledger that cannot be read closes no webhook.
            let usage = self.ledger.usage(&webhook.fingerprint()).await;
            count.add(webhook.fingerprint(), usage.as_ref().ok().copied());
            let usage = usage.unwrap_or_default();
            if !is_closed(usage, now) {
                open.push(webhook);
            }
        }
        if open.is_empty() {
            open.extend(pool.last());
        }
        open
    }

    async fn note(&self, webhook: &ClayWebhook, submission: Submission) {
        if let Err(error) = self.ledger.record(&webhook.fingerprint(), submission, self.ambient.now()).await {
            error!(webhook = webhook.fingerprint(), error = %error, "the use of a Clay webhook was not counted");
        }
    }

    fn secret_unavailable(&self, history: AttemptHistory) -> AttemptResult {
        self.later(history, Reason::without_status(ReasonCode::SecretUnavailable), None)
    }

    fn later(&self, history: AttemptHistory, reason: Reason, asked: Option<Duration>) -> AttemptResult {
        retry::retry_or_dead_letter(history, reason, asked, self.ambient.now(), self.ambient.random())
    }
}

/// What is known of the pool of a delivery's route, to see whether it has changed.
fn pool(delivery: &Delivery, secret: &LoopsToClaySecret) -> Vec<String> {
    let DeliveryKind::ClayRow { route, .. } = &delivery.kind else { return Vec::new() };
    let known = secret.routes.iter().filter(|known| known.name == *route);
    known.flat_map(|route| route.webhooks.iter().map(ClayWebhook::fingerprint)).collect()
}

fn is_closed(usage: WebhookUsage, now: Timestamp) -> bool {
    match usage.refused {
        Some((_, 403)) => true,
        Some((at, _)) => now.duration_since(at) < GONE_COOLDOWN,
        None => false,
    }
}
