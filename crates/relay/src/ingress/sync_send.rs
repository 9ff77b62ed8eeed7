//! Sends a row to Loops while Clay waits: two quick tries before the caller's deadline.

use bytes::Bytes;
use http::StatusCode;
use relay_core::delivery::{Delivery, DeliveryKind, Reason, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::policy::response::{CallOutcome, Decision, SendPath, decide, status_for_clay};
use relay_core::secret::SecretString;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::delivery::reason_for;
use crate::destination::http_client::DestinationResponse;
use crate::destination::loops::{LoopsClient, LoopsRequest};
use crate::ingress::row_outcome::{LoopsResponse, RowOutcome};
use crate::ports::clock::Clock;
use crate::ports::rate_limiter::{Permit, RateLimiter, Readiness, Unavailable};
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::telemetry::event::CallStats;

/// How often a row is tried while its caller waits.
const MAX_TRIES: u32 = 2;
/// The longest that one try may take: two of them, and the pause between, fit into the caller's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest time for a try: one that is aborted sooner has sent the row all the same, and its response is lost.
const MIN_TRY_TIME: Duration = Duration::from_secs(1);
/// The longest pause before the second try. If Loops asks for more, the row is queued.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How long Loops is not called after a 429 without `Retry-After` (its limit is per second).
pub(crate) const DEFAULT_THROTTLE: Duration = Duration::from_secs(1);

/// The ports of a synchronous attempt.
pub(crate) struct SyncSender<'a, S, L, P, A> {
    pub(crate) secrets: &'a S,
    pub(crate) loops: &'a L,
    pub(crate) limiter: &'a P,
    pub(crate) clock: &'a A,
}

/// A row that should succeed, but not while its caller waits.
pub(crate) struct Deferral {
    /// Number of tries that were made.
    pub(crate) attempts: u32,
    /// How long Loops asks not to be called.
    pub(crate) retry_after: Option<Duration>,
    /// Why Loops has not accepted the row.
    pub(crate) reason: Reason,
}

impl<S, L, P, A> SyncSender<'_, S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsClient,
    P: RateLimiter,
    A: Clock,
{
    /// Sends the row. `permit` is that of the first try.
    pub(crate) async fn send(
        &self,
        delivery: &Delivery,
        permit: Permit,
        mut api_key: SecretString,
        deadline: Instant,
        stats: &mut CallStats,
    ) -> Result<RowOutcome, Deferral> {
        let is_throttled = |readiness| matches!(readiness, Readiness::Unavailable(Unavailable::Throttled(_)));
        if !self.wait_for_permit(permit, deadline).await || is_throttled(self.limiter.readiness()) {
            // Loops has asked for fewer calls meanwhile, other callers have used the quota, or the deadline is too near.
            return Err(Deferral {
                attempts: 0,
                retry_after: None,
                reason: Reason::without_status(ReasonCode::DestinationThrottled),
            });
        }
        let is_event = matches!(delivery.kind, DeliveryKind::LoopsEvent { .. });
        let (mut tries, mut refreshed) = (0, false);
        loop {
            tries += 1;
            let response = self.call(delivery, &api_key, deadline, stats).await;
            self.limiter.record(&response).await;
            match decide(SendPath::LoopsFastPath, response.outcome, is_event) {
                Decision::Delivered => return Ok(to_delivered(response)),
                Decision::Duplicate => return Ok(RowOutcome::Duplicate),
                Decision::RefreshSecret if !refreshed => {
                    refreshed = true;
                    match self.secrets.refresh().await.ok().and_then(|secret| secret.api_key.clone()) {
                        Some(refreshed_key) => api_key = refreshed_key,
                        None => return Ok(self.unauthorized()),
                    }
                    // The second call is part of the same try, and needs a permit like any other.
                    tries -= 1;
                    let time_left = deadline.saturating_duration_since(Instant::now() + TRY_TIMEOUT);
                    if time_left.is_zero()
                        || !matches!(tokio::time::timeout(time_left, self.limiter.acquire()).await, Ok(Ok(())))
                    {
                        return Err(to_deferral(1, &response));
                    }
                }
                Decision::RefreshSecret => return Ok(self.unauthorized()),
                Decision::RetryThenQueue | Decision::RetryLater => {
                    let retry_after = response.retry_after;
                    let pause = if response.outcome == CallOutcome::Responded(429) {
                        let pause = retry_after.unwrap_or(DEFAULT_THROTTLE);
                        self.limiter.throttle_for(pause).await;
                        pause
                    } else {
                        retry_after.unwrap_or_else(|| short_pause(self.clock.random()))
                    };
                    let can_retry =
                        tries < MAX_TRIES && pause <= MAX_PAUSE && Instant::now() + pause + TRY_TIMEOUT < deadline;
                    if can_retry {
                        tokio::time::sleep(pause).await;
                    }
                    let permit = if can_retry { self.limiter.try_acquire().await } else { None };
                    let Some(permit) = permit else { return Err(to_deferral(tries, &response)) };
                    if !self.wait_for_permit(permit, deadline).await {
                        return Err(to_deferral(tries, &response));
                    }
                }
                Decision::Reject | Decision::DeadLetter | Decision::NextWebhook => return Ok(to_rejected(&response)),
            }
        }
    }

    /// Waits for a turn. One that is over by then, because the process was frozen or the store slow, is taken anew; false
    /// where there is none, or no time for a try.
    async fn wait_for_permit(&self, permit: Permit, deadline: Instant) -> bool {
        permit.wait().await;
        if permit.is_expired() {
            let Some(permit) = self.limiter.try_acquire().await else { return false };
            permit.wait().await;
        }
        Instant::now() + MIN_TRY_TIME <= deadline
    }

    async fn call(
        &self,
        delivery: &Delivery,
        api_key: &SecretString,
        deadline: Instant,
        stats: &mut CallStats,
    ) -> DestinationResponse {
        let started_at = Instant::now();
        let timeout = TRY_TIMEOUT.min(deadline.saturating_duration_since(started_at));
        let Delivery { id, kind, body, .. } = delivery;
        let response = self.loops.send(LoopsRequest { delivery_id: id, kind, body, api_key, timeout }).await;
        stats.record(started_at.elapsed());
        response
    }

    fn unauthorized(&self) -> RowOutcome {
        let name = self.secrets.describe_field(SecretField::LoopsApiKey);
        let message =
            format!("Loops refuses the relay's API key: put a valid one into {name}, then run the row again.");
        RequestError::new(ErrorCode::LoopsKeyRejected, message).into()
    }
}

fn to_deferral(attempts: u32, response: &DestinationResponse) -> Deferral {
    Deferral {
        attempts,
        retry_after: response.retry_after,
        reason: reason_for(SendPath::LoopsFastPath, response.outcome),
    }
}

fn to_delivered(response: DestinationResponse) -> RowOutcome {
    let status = match response.outcome {
        CallOutcome::Responded(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
        _ => StatusCode::OK,
    };
    RowOutcome::Delivered(LoopsResponse { status, body: response.body })
}

fn to_rejected(response: &DestinationResponse) -> RowOutcome {
    let status = match response.outcome {
        CallOutcome::Responded(status) => status,
        _ => 400,
    };
    let message = loops_error_message(&response.body).unwrap_or_else(|| {
        format!("Loops refuses the row with status {status} and no reason: compare the row with Loops' API reference.")
    });
    let status = StatusCode::from_u16(status_for_clay(status)).unwrap_or(StatusCode::BAD_REQUEST);
    RowOutcome::Rejected { error: RequestError::new(ErrorCode::LoopsRejected, message), status: Some(status) }
}

/// What Loops says in an error: `message`, or the older `error` (Loops API reference, errors).
pub(crate) fn loops_error_message(body: &Bytes) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    body.get("message").and_then(text).or_else(|| {
        let error = body.get("error")?;
        text(error).or_else(|| error.get("message").or_else(|| error.get("reason")).and_then(text))
    })
}

fn short_pause(random: f64) -> Duration {
    Duration::from_millis(100) + Duration::from_millis(200).mul_f64(random.clamp(0.0, 1.0))
}
