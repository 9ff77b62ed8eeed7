//! Sends a row to Loops while Clay waits: two quick tries before the caller's deadline.

use bytes::Bytes;
use http::StatusCode;
use relay_core::account::KeyAccount;
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::policy::response::{Decision, SendPath, decide, status_for_clay};
use relay_core::policy::retry;
use relay_core::secret::SecretString;
use tokio::time::{Duration, Instant};

use crate::delivery::{reason_for, record_call};
use crate::destination::http_client::DestinationResponse;
use crate::destination::loops::{LoopsClient, error_message};
use crate::ingress::row_outcome::RowOutcome;
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::{Permit, RateLimiter, Readiness, Unavailable};
use crate::ports::row_intake::SyncSendResult;
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::telemetry::event::CallStats;

const MAX_TRIES: u32 = 2;
/// Timeout of a try: two of them, and the pause between, fit into the caller's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest time for a try: one that is aborted sooner has sent the row all the same, and its response is lost.
const MIN_TRY_TIME: Duration = Duration::from_secs(1);
/// The longest pause before the second try. If Loops asks for more, the row is queued.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The ports of a synchronous attempt.
pub(crate) struct SyncSender<'a, S, L, P> {
    pub(crate) secrets: &'a S,
    pub(crate) loops: &'a L,
    pub(crate) limiter: &'a P,
    pub(crate) clock: &'a SharedClock,
}

impl<S: SecretSource<ClayToLoopsSecret>, L: LoopsClient, P: RateLimiter> SyncSender<'_, S, L, P> {
    /// Sends the row, with `permit` for the first try. Fails with the deferral of a row that should succeed, but not while its
    /// caller waits.
    pub(crate) async fn send(
        &self,
        delivery: &Delivery,
        permit: Permit,
        mut api_key: SecretString,
        deadline: Instant,
        stats: &mut CallStats,
    ) -> Result<RowOutcome, SyncSendResult> {
        let is_throttled = |readiness| matches!(readiness, Readiness::Unavailable(Unavailable::Throttled(_)));
        if !self.wait_for_permit(permit, deadline).await || is_throttled(self.limiter.readiness()) {
            // Loops has asked for fewer calls meanwhile, other callers have used the quota, or the deadline is too near.
            return Err(self.defer(0, None, Reason::without_status(ReasonCode::DestinationThrottled), stats));
        }
        let (mut tries, mut refreshed) = (0, false);
        loop {
            tries += 1;
            let timeout = TRY_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
            let response = record_call(self.loops.send(delivery, &api_key, timeout), self.limiter, stats).await;
            match decide(SendPath::LoopsFastPath, response.outcome, &delivery.kind) {
                Decision::Delivered => return Ok(to_delivered(response)),
                Decision::Duplicate => return Ok(RowOutcome::Duplicate),
                Decision::RefreshSecret if !refreshed => {
                    refreshed = true;
                    // A key of another account is not for this row.
                    let account = KeyAccount::known(delivery.account());
                    let refreshed_secret = self.secrets.refresh().await.ok().filter(|secret| secret.account == account);
                    let refreshed_key = refreshed_secret.and_then(|secret| secret.api_key.clone());
                    let Some(refreshed_key) = refreshed_key else { return Ok(self.unauthorized()) };
                    api_key = refreshed_key;
                    // The second call is part of the same try, and needs a permit like any other.
                    tries -= 1;
                    let time_left = deadline.saturating_duration_since(Instant::now() + TRY_TIMEOUT);
                    if time_left.is_zero()
                        || !matches!(tokio::time::timeout(time_left, self.limiter.acquire()).await, Ok(Ok(())))
                    {
                        return Err(self.defer_after(1, &response, stats));
                    }
                }
                Decision::RefreshSecret => return Ok(self.unauthorized()),
                Decision::RetryThenQueue | Decision::RetryLater => {
                    let pause = match response.throttle() {
                        Some(throttle) => {
                            self.limiter.throttle_for(throttle).await;
                            throttle
                        }
                        None => response.retry_after.unwrap_or_else(|| short_pause(self.clock.random())),
                    };
                    let can_retry =
                        tries < MAX_TRIES && pause <= MAX_PAUSE && Instant::now() + pause + TRY_TIMEOUT < deadline;
                    if can_retry {
                        tokio::time::sleep(pause).await;
                    }
                    let permit = if can_retry { self.limiter.try_acquire().await } else { None };
                    let Some(permit) = permit else { return Err(self.defer_after(tries, &response, stats)) };
                    if !self.wait_for_permit(permit, deadline).await {
                        return Err(self.defer_after(tries, &response, stats));
                    }
                }
                Decision::Reject | Decision::DeadLetter | Decision::NextWebhook => {
                    return Ok(to_rejected(delivery, &response, stats));
                }
            }
        }
    }

    /// Waits for a permit's time. If it has expired by then, because the process was frozen or the store slow, another one is
    /// acquired. Returns false if there is none, or no time for a try.
    async fn wait_for_permit(&self, permit: Permit, deadline: Instant) -> bool {
        permit.wait().await;
        if permit.is_expired() {
            let Some(permit) = self.limiter.try_acquire().await else { return false };
            permit.wait().await;
        }
        Instant::now() + MIN_TRY_TIME <= deadline
    }

    fn defer_after(&self, attempts: u32, response: &DestinationResponse, stats: &CallStats) -> SyncSendResult {
        self.defer(attempts, response.retry_after, reason_for(SendPath::LoopsFastPath, response), stats)
    }

    pub(crate) fn defer(
        &self,
        attempts: u32,
        retry_after: Option<Duration>,
        reason: Reason,
        stats: &CallStats,
    ) -> SyncSendResult {
        let delay = retry::retry_delay(attempts, retry_after, self.clock.random());
        SyncSendResult::Deferred {
            attempts,
            retry_at: retry::add_saturating(self.clock.now(), delay),
            reason,
            no_early_retry: retry::pins_next_attempt(retry_after, reason),
            outcome_unknown: stats.outcome_unknown,
        }
    }

    fn unauthorized(&self) -> RowOutcome {
        loops_key_rejected(&self.secrets.describe_field(SecretField::LoopsApiKey)).into()
    }
}

/// Returns the error of a row whose Loops key, found under this name, is not accepted.
pub(crate) fn loops_key_rejected(name: &str) -> RequestError {
    let message = format!("Loops refuses the relay's API key: put a valid one into {name}, then run the row again.");
    RequestError::new(ErrorCode::LoopsKeyRejected, message)
}

fn to_delivered(response: DestinationResponse) -> RowOutcome {
    let status = response.status().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    RowOutcome::Delivered { status, body: response.body }
}

fn to_rejected(delivery: &Delivery, response: &DestinationResponse, stats: &CallStats) -> RowOutcome {
    if stats.outcome_unknown && decide(SendPath::LoopsWorker, response.outcome, &delivery.kind) == Decision::Delivered {
        // An earlier try was accepted although Loops did not say so.
        return RowOutcome::Delivered { status: StatusCode::OK, body: Bytes::new() };
    }
    let status = response.status().unwrap_or(400);
    let message = error_message(&response.body).unwrap_or_else(|| {
        format!("Loops refuses the row with status {status} and no reason: compare the row with Loops' API reference.")
    });
    let status = StatusCode::from_u16(status_for_clay(status)).unwrap_or(StatusCode::BAD_REQUEST);
    RowOutcome::Rejected {
        error: RequestError::new(ErrorCode::LoopsRejected, message),
        status: Some(status),
        loops_answer: serde_json::from_slice(&response.body).unwrap_or_default(),
    }
}

fn short_pause(random: f64) -> Duration {
    Duration::from_millis(100) + Duration::from_millis(200).mul_f64(random.clamp(0.0, 1.0))
}
