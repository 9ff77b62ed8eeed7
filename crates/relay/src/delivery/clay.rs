//! `clay-delivery`: the worker that posts stored events to Clay's webhooks, and moves on to the next webhook of the pool
//! when one has taken its 50,000.

use jiff::{SignedDuration, Timestamp};
use relay_core::delivery::{Cargo, Delivery, Disposition, History, Reason, ReasonCode};
use relay_core::policy::response::{Decision, Lane, Outcome, decide};
use relay_core::policy::retry;
use relay_core::webhook::payload::ClayPayload;
use relay_core::webhook::route::ClayWebhook;
use tokio::time::{Duration, Instant};
use tracing::{error, warn};

use crate::delivery::outcome::{firm_if_alone, later_because, reason_of, tell};
use crate::delivery::pool_usage::PoolCount;
use crate::destination::clay::ClayApi;
use crate::ports::clock::Ambient;
use crate::ports::queue::{Attempt, Submission, WebhookLedger, WebhookUse};
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::rate_limit::limiter::{Pace, Readiness};
use crate::telemetry::event::Tally;

/// The longest that one post may take.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long Clay is left alone after a 429 that does not say how long (its own answer says one second).
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How long a webhook that is gone (404, 410) is passed over; one that is used up (403) stays so.
const GONE_FOR: SignedDuration = SignedDuration::from_mins(15);

/// The worker.
#[derive(Debug, Clone)]
pub struct ClayDelivery<S, C, W, P, A> {
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
    pub payload: ClayPayload,
}

/// What one pass over a pool came to.
enum Pass {
    Ended(Disposition),
    /// A person has to mend it: a refused token, a pool that is used up or empty.
    ToBeMended(Reason),
}

impl<S, C, W, P, A> Attempt for ClayDelivery<S, C, W, P, A>
where
    S: SecretSource<LoopsToClaySecret>,
    C: ClayApi,
    W: WebhookLedger,
    P: Pace,
    A: Ambient,
{
    fn readiness(&self) -> Readiness {
        self.pace.readiness()
    }

    async fn attempt(&self, delivery: &Delivery, history: History) -> Disposition {
        let (begun, mut tally) = (Instant::now(), Tally::default());
        let end = self.try_once(delivery, history, &mut tally).await;
        tell(delivery, history, end, begun, tally, self.ambient.now());
        end
    }
}

impl<S, C, W, P, A> ClayDelivery<S, C, W, P, A>
where
    S: SecretSource<LoopsToClaySecret>,
    C: ClayApi,
    W: WebhookLedger,
    P: Pace,
    A: Ambient,
{
    async fn try_once(&self, delivery: &Delivery, history: History, tally: &mut Tally) -> Disposition {
        let Ok(secret) = self.secrets.current().await else {
            return self.unreadable(history);
        };
        let reason = match self.pass(delivery, history, &secret, tally).await {
            Pass::Ended(disposition) => return disposition,
            Pass::ToBeMended(reason) => reason,
        };
        let refused = reason.code == ReasonCode::ClayTokenRejected;
        let hold = |reason| retry::hold(history, reason, self.ambient.now());
        let mended = match self.secrets.reread().await {
            Ok(mended) => mended,
            Err(_) if refused => return self.unreadable(history),
            Err(_) => return hold(reason),
        };
        // A token may have been set anew under the same URL; a pool that is used up needs another URL.
        if !refused && pool(delivery, &secret) == pool(delivery, &mended) {
            return hold(reason);
        }
        match self.pass(delivery, history, &mended, tally).await {
            Pass::Ended(disposition) => disposition,
            Pass::ToBeMended(reason) => hold(reason),
        }
    }

    /// Tries the webhooks of the delivery's route, one after another, until one answers for the row.
    async fn pass(&self, delivery: &Delivery, history: History, secret: &LoopsToClaySecret, tally: &mut Tally) -> Pass {
        let Cargo::ClayRow { route, webhook_id } = &delivery.cargo else {
            return Pass::Ended(Disposition::Dead(Reason::own(ReasonCode::NoRoute)));
        };
        let pool = secret.routes.iter().find(|known| known.name == *route).map(|route| route.webhooks.as_slice());
        let pool = pool.unwrap_or_default();
        let mut reason = Reason::own(ReasonCode::NoWebhook);
        let mut count = PoolCount::default();
        for webhook in self.open_first(pool, &mut count).await {
            if let Err(left_alone) = self.pace.wait().await {
                return Pass::Ended(later_because(left_alone, self.ambient.now()));
            }
            let row = self.payload.render(&delivery.body, webhook_id, delivery.received_at);
            let asked = Instant::now();
            let answer = self.clay.post(webhook, &delivery.id, row, POST_TIMEOUT).await;
            tally.note(asked.elapsed());
            self.pace.note(&answer).await;
            reason = reason_of(Lane::ClayWorker, answer.outcome);
            match decide(Lane::ClayWorker, answer.outcome, false) {
                Decision::Delivered | Decision::Duplicate => {
                    self.note(webhook, Submission::Taken).await;
                    tally.pool = count.taken(&webhook.key());
                    return Pass::Ended(Disposition::Delivered);
                }
                Decision::NextWebhook => {
                    let status = reason.status.unwrap_or_default();
                    warn!(webhook = webhook.key(), status, "this Clay webhook takes no more rows");
                    self.note(webhook, Submission::Refused(status)).await;
                    tally.pool = count.refused(&webhook.key(), status);
                }
                Decision::RereadSecretThen(_) => return Pass::ToBeMended(reason),
                Decision::DeadLetter | Decision::Refuse => return Pass::Ended(Disposition::Dead(reason)),
                Decision::TryLater | Decision::RetryThenStore => {
                    if answer.outcome == Outcome::Answered(429) {
                        self.pace.pause(answer.retry_after.unwrap_or(FULL_PAUSE)).await;
                    }
                    let later = self.later(history, reason, answer.retry_after);
                    return Pass::Ended(firm_if_alone(later, history, &self.pace, self.ambient.now()));
                }
            }
        }
        Pass::ToBeMended(reason)
    }

    /// The webhooks that are not known to refuse; where all are, the last of them, to see whether it still does.
    async fn open_first<'a>(&self, pool: &'a [ClayWebhook], count: &mut PoolCount) -> Vec<&'a ClayWebhook> {
        let now = self.ambient.now();
        let mut open = Vec::new();
        for webhook in pool {
            // A ledger that cannot be read closes no webhook.
            let usage = self.ledger.usage(&webhook.key()).await;
            count.add(webhook.key(), usage.as_ref().ok().copied());
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
        if let Err(fault) = self.ledger.note(&webhook.key(), submission, self.ambient.now()).await {
            error!(webhook = webhook.key(), fault = %fault, "the use of a Clay webhook was not counted");
        }
    }

    fn unreadable(&self, history: History) -> Disposition {
        self.later(history, Reason::own(ReasonCode::SecretUnavailable), None)
    }

    fn later(&self, history: History, reason: Reason, asked: Option<Duration>) -> Disposition {
        retry::try_later(history, reason, asked, self.ambient.now(), self.ambient.chance())
    }
}

/// What is known of the pool of a delivery's route, to see whether it has changed.
fn pool(delivery: &Delivery, secret: &LoopsToClaySecret) -> Vec<String> {
    let Cargo::ClayRow { route, .. } = &delivery.cargo else { return Vec::new() };
    let known = secret.routes.iter().filter(|known| known.name == *route);
    known.flat_map(|route| route.webhooks.iter().map(ClayWebhook::key)).collect()
}

fn is_closed(usage: WebhookUse, now: Timestamp) -> bool {
    match usage.refused {
        Some((_, 403)) => true,
        Some((at, _)) => now.duration_since(at) < GONE_FOR,
        None => false,
    }
}
