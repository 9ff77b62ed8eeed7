//! A row's call to Loops while Clay waits: two quick tries within the time that the caller has.

use bytes::Bytes;
use http::StatusCode;
use relay_core::delivery::{Cargo, Delivery, Reason, ReasonCode};
use relay_core::error::{Code, Refusal};
use relay_core::policy::response::{Decision, Lane, Outcome, decide, refusal_status};
use relay_core::secret::SecretString;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::delivery::outcome::reason_of;
use crate::destination::http_client::FarAnswer;
use crate::destination::loops::{LoopsApi, LoopsCall};
use crate::ingress::row_outcome::LoopsAnswer;
use crate::ports::clock::Ambient;
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::rate_limit::limiter::{LeftAlone, Pace, Readiness, Turn};
use crate::telemetry::event::Tally;

/// How often a row is tried while its caller waits.
const TRIES: u32 = 2;
/// The longest that one try may take: two of them, and the pause between, fit into the caller's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest: one that is broken off sooner has sent the row all the same, and nobody waits for what Loops says.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
/// The longest pause before the second try; who asks for more gets it from the queue.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long Loops is left alone after a 429 that does not say how long (its limit is per second).
pub(crate) const FULL_PAUSE: Duration = Duration::from_secs(1);

/// The ports of a direct attempt.
pub(crate) struct Direct<'a, S, L, P, A> {
    pub(crate) secrets: &'a S,
    pub(crate) loops: &'a L,
    pub(crate) pace: &'a P,
    pub(crate) ambient: &'a A,
}

/// What a direct attempt came to.
pub(crate) enum DirectAttempt {
    /// Loops took it.
    Answered(LoopsAnswer),
    /// Loops knows the event's key already.
    Duplicate,
    /// Loops refuses it for good.
    Refused {
        /// The status for the caller.
        status: StatusCode,
        /// What Loops said.
        message: String,
    },
    /// Loops refuses the relay's key, also the one that was read again.
    KeyRejected(Refusal),
    /// It should pass, but not while the caller waits.
    Failed {
        /// How many tries were made.
        attempts: u32,
        /// How long Loops asks to be left alone.
        asked: Option<Duration>,
        /// Why.
        reason: Reason,
    },
}

impl<S, L, P, A> Direct<'_, S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    P: Pace,
    A: Ambient,
{
    /// Tries it; the turn for the first try is taken already.
    pub(crate) async fn attempt(
        &self,
        delivery: &Delivery,
        turn: Turn,
        mut key: SecretString,
        deadline: Instant,
        tally: &mut Tally,
    ) -> DirectAttempt {
        let full = |readiness| matches!(readiness, Readiness::LeftAlone(LeftAlone::Full(_)));
        if !self.comes(turn, deadline).await || full(self.pace.readiness()) {
            // Loops has said meanwhile that it is full, or others have taken what room there was; or the caller's time is up.
            return DirectAttempt::Failed { attempts: 0, asked: None, reason: Reason::own(ReasonCode::FarEndFull) };
        }
        let event = matches!(delivery.cargo, Cargo::LoopsEvent { .. });
        let (mut tries, mut reread) = (0, false);
        loop {
            tries += 1;
            let answer = self.call(delivery, &key, deadline, tally).await;
            self.pace.note(&answer).await;
            match decide(Lane::LoopsDirect, answer.outcome, event) {
                Decision::Delivered => return taken(answer),
                Decision::Duplicate => return DirectAttempt::Duplicate,
                Decision::RereadSecretThen(_) if !reread => {
                    reread = true;
                    match self.secrets.reread().await.ok().and_then(|secret| secret.api_key.clone()) {
                        Some(read) => key = read,
                        None => return self.key_rejected(),
                    }
                    // The second call is part of the same try, and takes room like any other.
                    tries -= 1;
                    let left = deadline.saturating_duration_since(Instant::now() + TRY_TIMEOUT);
                    if left.is_zero() || !matches!(tokio::time::timeout(left, self.pace.wait()).await, Ok(Ok(()))) {
                        return failed(1, &answer);
                    }
                }
                Decision::RereadSecretThen(_) => return self.key_rejected(),
                Decision::RetryThenStore | Decision::TryLater => {
                    let asked = answer.retry_after;
                    let pause = if answer.outcome == Outcome::Answered(429) {
                        let pause = asked.unwrap_or(FULL_PAUSE);
                        self.pace.pause(pause).await;
                        pause
                    } else {
                        asked.unwrap_or_else(|| quick_pause(self.ambient.chance()))
                    };
                    let again =
                        tries < TRIES && pause <= LONGEST_PAUSE && Instant::now() + pause + TRY_TIMEOUT < deadline;
                    if again {
                        tokio::time::sleep(pause).await;
                    }
                    let turn = if again { self.pace.try_take().await } else { None };
                    let Some(turn) = turn else { return failed(tries, &answer) };
                    if !self.comes(turn, deadline).await {
                        return failed(tries, &answer);
                    }
                }
                Decision::Refuse | Decision::DeadLetter | Decision::NextWebhook => return refused(&answer),
            }
        }
    }

    /// Waits for a turn. One that is over by then, because the process was frozen or the store slow, is taken anew; false
    /// where there is none, or no time for a try.
    async fn comes(&self, turn: Turn, deadline: Instant) -> bool {
        turn.comes().await;
        if turn.is_over() {
            let Some(turn) = self.pace.try_take().await else { return false };
            turn.comes().await;
        }
        Instant::now() + SHORTEST_TRY <= deadline
    }

    async fn call(
        &self,
        delivery: &Delivery,
        api_key: &SecretString,
        deadline: Instant,
        tally: &mut Tally,
    ) -> FarAnswer {
        let begun = Instant::now();
        let timeout = TRY_TIMEOUT.min(deadline.saturating_duration_since(begun));
        let Delivery { id, cargo, body, .. } = delivery;
        let answer = self.loops.call(LoopsCall { delivery: id, cargo, body, api_key, timeout }).await;
        tally.note(begun.elapsed());
        answer
    }

    fn key_rejected(&self) -> DirectAttempt {
        let name = self.secrets.name_of(SecretField::LoopsApiKey);
        let message =
            format!("Loops refuses the relay's API key: put a valid one into {name}, then run the row again.");
        DirectAttempt::KeyRejected(Refusal::new(Code::LoopsKeyRejected, message))
    }
}

fn failed(attempts: u32, answer: &FarAnswer) -> DirectAttempt {
    DirectAttempt::Failed { attempts, asked: answer.retry_after, reason: reason_of(Lane::LoopsDirect, answer.outcome) }
}

fn taken(answer: FarAnswer) -> DirectAttempt {
    let status = match answer.outcome {
        Outcome::Answered(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
        _ => StatusCode::OK,
    };
    DirectAttempt::Answered(LoopsAnswer { status, body: answer.body })
}

fn refused(answer: &FarAnswer) -> DirectAttempt {
    let status = match answer.outcome {
        Outcome::Answered(status) => status,
        _ => 400,
    };
    let message = loops_message(&answer.body).unwrap_or_else(|| {
        format!("Loops refuses the row with status {status} and no reason: compare the row with Loops' API reference.")
    });
    let status = StatusCode::from_u16(refusal_status(status)).unwrap_or(StatusCode::BAD_REQUEST);
    DirectAttempt::Refused { status, message }
}

/// What Loops says in an error: `message`, or the older `error` (Loops API reference, errors).
pub(crate) fn loops_message(body: &Bytes) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    body.get("message").and_then(text).or_else(|| {
        let error = body.get("error")?;
        text(error).or_else(|| error.get("message").or_else(|| error.get("reason")).and_then(text))
    })
}

fn quick_pause(chance: f64) -> Duration {
    Duration::from_millis(100) + Duration::from_millis(200).mul_f64(chance.clamp(0.0, 1.0))
}
