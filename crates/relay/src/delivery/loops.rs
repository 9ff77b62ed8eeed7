//! `loops-delivery`: the worker that sends stored rows to Loops.

use relay_core::delivery::{Cargo, Delivery, Disposition, History, Reason, ReasonCode};
use relay_core::policy::response::{Decision, Lane, Outcome, decide};
use relay_core::policy::retry;
use tokio::time::{Duration, Instant};

use crate::delivery::outcome::{firm_if_alone, later_because, reason_of, tell};
use crate::destination::loops::{LoopsApi, LoopsCall};
use crate::ingress::sync_send::FULL_PAUSE;
use crate::ports::clock::Ambient;
use crate::ports::queue::Attempt;
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};
use crate::rate_limit::limiter::{Pace, Readiness};
use crate::telemetry::event::Tally;

/// The longest that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The worker.
#[derive(Debug, Clone)]
pub struct LoopsDelivery<S, L, P, A> {
    /// The Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The pace of calls to Loops, shared with the direct lane.
    pub pace: P,
    /// Time and chance.
    pub ambient: A,
}

impl<S, L, P, A> Attempt for LoopsDelivery<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
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

impl<S, L, P, A> LoopsDelivery<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    P: Pace,
    A: Ambient,
{
    async fn try_once(&self, delivery: &Delivery, history: History, tally: &mut Tally) -> Disposition {
        let event = matches!(delivery.cargo, Cargo::LoopsEvent { .. });
        let Ok(mut secret) = self.secrets.current().await else {
            return self.unreadable(history);
        };
        let mut reread = false;
        loop {
            let Some(api_key) = &secret.api_key else {
                if !reread && let Ok(filled_in) = self.secrets.reread().await {
                    (reread, secret) = (true, filled_in);
                    continue;
                }
                return retry::hold(history, Reason::own(ReasonCode::NotConfigured), self.ambient.now());
            };
            if let Err(left_alone) = self.pace.wait().await {
                return later_because(left_alone, self.ambient.now());
            }
            let Delivery { id, cargo, body, .. } = delivery;
            let asked = Instant::now();
            let answer = self.loops.call(LoopsCall { delivery: id, cargo, body, api_key, timeout: CALL_TIMEOUT }).await;
            tally.note(asked.elapsed());
            self.pace.note(&answer).await;
            let reason = reason_of(Lane::LoopsWorker, answer.outcome);
            match decide(Lane::LoopsWorker, answer.outcome, event) {
                decision @ (Decision::Delivered | Decision::Duplicate) => {
                    tally.duplicate = decision == Decision::Duplicate;
                    return Disposition::Delivered;
                }
                Decision::RereadSecretThen(_) if !reread => {
                    reread = true;
                    secret = match self.secrets.reread().await {
                        Ok(secret) => secret,
                        Err(_) => return self.unreadable(history),
                    };
                }
                Decision::RereadSecretThen(_) => return retry::hold(history, reason, self.ambient.now()),
                Decision::DeadLetter | Decision::Refuse | Decision::NextWebhook => return Disposition::Dead(reason),
                Decision::TryLater | Decision::RetryThenStore => {
                    if answer.outcome == Outcome::Answered(429) {
                        self.pace.pause(answer.retry_after.unwrap_or(FULL_PAUSE)).await;
                    }
                    let later = self.later(history, reason, answer.retry_after);
                    return firm_if_alone(later, history, &self.pace, self.ambient.now());
                }
            }
        }
    }
}

impl<S, L, P, A: Ambient> LoopsDelivery<S, L, P, A> {
    fn unreadable(&self, history: History) -> Disposition {
        self.later(history, Reason::own(ReasonCode::SecretUnavailable), None)
    }

    fn later(&self, history: History, reason: Reason, asked: Option<Duration>) -> Disposition {
        retry::try_later(history, reason, asked, self.ambient.now(), self.ambient.chance())
    }
}
