//! A row's call to Loops while Clay waits: two quick tries within the time that the caller has.

use bytes::Bytes;
use http::StatusCode;
use relay_core::delivery::{Delivery, DeliveryKind, Reason, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::policy::response::{CallOutcome, Decision, SendPath, decide, status_for_clay};
use relay_core::secret::SecretString;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::delivery::outcome::reason_for;
use crate::destination::http_client::DestinationResponse;
use crate::destination::loops::{LoopsApi, LoopsCall};
use crate::ingress::row_outcome::LoopsResponse;
use crate::ports::clock::Clock;
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::rate_limit::limiter::{Permit, RateLimiter, Readiness, Unavailable};
use crate::telemetry::event::CallStats;

/// How often a row is tried while its caller waits.
const MAX_TRIES: u32 = 2;
/// The longest that one try may take: two of them, and the pause between, fit into the caller's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest: one that is broken off sooner has sent the row all the same, and nobody waits for what Loops says.
const MIN_TRY_TIME: Duration = Duration::from_secs(1);
/// The longest pause before the second try; who asks for more gets it from the queue.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How long Loops is left alone after a 429 that does not say how long (its limit is per second).
pub(crate) const FULL_PAUSE: Duration = Duration::from_secs(1);

/// The ports of a direct attempt.
pub(crate) struct SyncSender<'a, S, L, P, A> {
    pub(crate) secrets: &'a S,
    pub(crate) loops: &'a L,
    pub(crate) pace: &'a P,
    pub(crate) ambient: &'a A,
}

/// What a direct attempt came to.
pub(crate) enum SyncResult {
    /// Loops took it.
    Delivered(LoopsResponse),
    /// Loops knows the event's key already.
    Duplicate,
    /// Loops refuses it for good.
    Rejected {
        /// The status for the caller.
        status: StatusCode,
        /// What Loops said.
        message: String,
    },
    /// Loops refuses the relay's key, also the one that was read again.
    Unauthorized(RequestError),
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

impl<S, L, P, A> SyncSender<'_, S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    P: RateLimiter,
    A: Clock,
{
    /// Tries it; the turn for the first try is taken already.
    pub(crate) async fn attempt(
        &self,
        delivery: &Delivery,
        turn: Permit,
        mut key: SecretString,
        deadline: Instant,
        tally: &mut CallStats,
    ) -> SyncResult {
        let full = |readiness| matches!(readiness, Readiness::LeftAlone(Unavailable::Throttled(_)));
        if !self.wait_for_permit(turn, deadline).await || full(self.pace.readiness()) {
            // Loops has said meanwhile that it is full, or others have taken what room there was; or the caller's time is up.
            return SyncResult::Failed {
                attempts: 0,
                asked: None,
                reason: Reason::without_status(ReasonCode::DestinationThrottled),
            };
        }
        let event = matches!(delivery.kind, DeliveryKind::LoopsEvent { .. });
        let (mut tries, mut reread) = (0, false);
        loop {
            tries += 1;
            let answer = self.call(delivery, &key, deadline, tally).await;
            self.pace.record(&answer).await;
            match decide(SendPath::LoopsFastPath, answer.outcome, event) {
                Decision::Delivered => return to_delivered(answer),
                Decision::Duplicate => return SyncResult::Duplicate,
                Decision::RefreshSecretThen(_) if !reread => {
                    reread = true;
                    match self.secrets.refresh().await.ok().and_then(|secret| secret.api_key.clone()) {
                        Some(read) => key = read,
                        None => return self.key_rejected(),
                    }
                    // The second call is part of the same try, and takes room like any other.
                    tries -= 1;
                    let left = deadline.saturating_duration_since(Instant::now() + TRY_TIMEOUT);
                    if left.is_zero() || !matches!(tokio::time::timeout(left, self.pace.acquire()).await, Ok(Ok(()))) {
                        return to_failed(1, &answer);
                    }
                }
                Decision::RefreshSecretThen(_) => return self.key_rejected(),
                Decision::RetryThenQueue | Decision::RetryLater => {
                    let asked = answer.retry_after;
                    let pause = if answer.outcome == CallOutcome::Answered(429) {
                        let pause = asked.unwrap_or(FULL_PAUSE);
                        self.pace.throttle_for(pause).await;
                        pause
                    } else {
                        asked.unwrap_or_else(|| short_pause(self.ambient.random()))
                    };
                    let again =
                        tries < MAX_TRIES && pause <= MAX_PAUSE && Instant::now() + pause + TRY_TIMEOUT < deadline;
                    if again {
                        tokio::time::sleep(pause).await;
                    }
                    let turn = if again { self.pace.try_acquire().await } else { None };
                    let Some(turn) = turn else { return to_failed(tries, &answer) };
                    if !self.wait_for_permit(turn, deadline).await {
                        return to_failed(tries, &answer);
                    }
                }
                Decision::Reject | Decision::DeadLetter | Decision::NextWebhook => return to_rejected(&answer),
            }
        }
    }

    /// Waits for a turn. One that is over by then, because the process was frozen or the store slow, is taken anew; false
    /// where there is none, or no time for a try.
    async fn wait_for_permit(&self, turn: Permit, deadline: Instant) -> bool {
        turn.wait().await;
        if turn.is_expired() {
            let Some(turn) = self.pace.try_acquire().await else { return false };
            turn.wait().await;
        }
        Instant::now() + MIN_TRY_TIME <= deadline
    }

    async fn call(
        &self,
        delivery: &Delivery,
        api_key: &SecretString,
        deadline: Instant,
        tally: &mut CallStats,
    ) -> DestinationResponse {
        let begun = Instant::now();
        let timeout = TRY_TIMEOUT.min(deadline.saturating_duration_since(begun));
        let Delivery { id, kind: cargo, body, .. } = delivery;
        let answer = self.loops.call(LoopsCall { delivery: id, cargo, body, api_key, timeout }).await;
        tally.note(begun.elapsed());
        answer
    }

    fn key_rejected(&self) -> SyncResult {
        let name = self.secrets.describe_field(SecretField::LoopsApiKey);
        let message =
            format!("Loops refuses the relay's API key: put a valid one into {name}, then run the row again.");
        SyncResult::Unauthorized(RequestError::new(ErrorCode::LoopsKeyRejected, message))
    }
}

fn to_failed(attempts: u32, answer: &DestinationResponse) -> SyncResult {
    SyncResult::Failed {
        attempts,
        asked: answer.retry_after,
        reason: reason_for(SendPath::LoopsFastPath, answer.outcome),
    }
}

fn to_delivered(answer: DestinationResponse) -> SyncResult {
    let status = match answer.outcome {
        CallOutcome::Answered(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
        _ => StatusCode::OK,
    };
    SyncResult::Delivered(LoopsResponse { status, body: answer.body })
}

fn to_rejected(answer: &DestinationResponse) -> SyncResult {
    let status = match answer.outcome {
        CallOutcome::Answered(status) => status,
        _ => 400,
    };
    let message = loops_message(&answer.body).unwrap_or_else(|| {
        format!("Loops refuses the row with status {status} and no reason: compare the row with Loops' API reference.")
    });
    let status = StatusCode::from_u16(status_for_clay(status)).unwrap_or(StatusCode::BAD_REQUEST);
    SyncResult::Rejected { status, message }
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

fn short_pause(chance: f64) -> Duration {
    Duration::from_millis(100) + Duration::from_millis(200).mul_f64(chance.clamp(0.0, 1.0))
}
