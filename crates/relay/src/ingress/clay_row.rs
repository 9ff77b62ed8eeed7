//! `PUT /api/v1/contacts/update` and `POST /api/v1/events/send`: a row of a Clay table becomes a Loops contact or event.
//!
//! If the rate limit allows, the row is sent at once and the caller gets Loops' response. Otherwise it is queued, and answered
//! with 202. Every request has one [`RowOutcome`], which one function turns into the response.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::idempotency::{self, IdempotencyKey};
use relay_core::policy::retry;
use relay_core::row::{Row, RowKind, RowOptions};
use relay_core::secret::SecretString;
use tokio::time::{Duration, Instant};
use tracing::error;

use crate::destination::loops::LoopsClient;
use crate::ingress::row_outcome::{LoopsResponse, RowContext, RowOutcome};
use crate::ingress::schema_cache::{SchemaCache, SchemaRefresher};
use crate::ingress::sync_send::{Deferral, SyncSender};
use crate::ports::clock::Clock;
use crate::ports::fast_path::{Admission, DeliveryMode, FastPath, FastPathResult};
use crate::ports::queue::StoreError;
use crate::ports::rate_limiter::{Permit, RateLimiter};
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::routes::MAX_REQUEST_BYTES;
use crate::telemetry::event::CallStats;

/// The time in which a row is answered: below what Clay's column waits, and below a gateway's 30 s.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(10);
/// Poll interval while a duplicate of the row is in flight.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The handler of both routes.
#[derive(Debug, Clone)]
pub struct ClayRowHandler<S, L, D, P, A> {
    /// The relay tokens and the Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The contact locks and the queue.
    pub fast_path: D,
    /// The rate limiter of Loops, shared with the worker.
    pub limiter: P,
    /// Time, random numbers and ids.
    pub clock: A,
    /// The `source` that is written into contacts that carry none, if it is set.
    pub contact_source: Option<String>,
    /// What is known of the account's properties.
    pub schema: SchemaCache,
}

/// A request that may be sent: authenticated, read and clean.
struct AcceptedRow {
    delivery: Delivery,
    mode: DeliveryMode,
    api_key: SecretString,
    /// The fields that were left out or cut.
    adjusted: Vec<String>,
}

impl<S, L, D, P, A> ClayRowHandler<S, L, D, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsClient,
    D: FastPath,
    P: RateLimiter,
    A: Clock,
{
    /// Answers one request of the route for that kind of row.
    pub async fn handle(&self, kind: RowKind, request: Request<Bytes>) -> Response<Bytes> {
        let (started_at, mut stats) = (Instant::now(), CallStats::default());
        let deadline = started_at + RESPONSE_DEADLINE;
        let (context, outcome) = match self.accept(kind, request).await {
            Ok(mut accepted) => {
                let id = accepted.delivery.id.clone();
                let adjusted = std::mem::take(&mut accepted.adjusted);
                let contact = Some(accepted.delivery.contact.clone());
                let context = RowContext { id, contact, adjusted, prefers_async: accepted.mode == DeliveryMode::Async };
                (context, self.dispatch(accepted, deadline, &mut stats).await)
            }
            Err(error) => (RowContext::for_rejected(&self.clock.new_id()), error.into()),
        };
        outcome.log(kind, &context, started_at.elapsed(), stats);
        outcome.into_response(&context)
    }

    async fn accept(&self, kind: RowKind, request: Request<Bytes>) -> Result<AcceptedRow, RequestError> {
        let (parts, body) = request.into_parts();
        let secret = self.authenticate(&parts.headers).await?;
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::new(
                ErrorCode::TooLarge,
                "The row is larger than 256 KiB: take columns out of the body of the HTTP API column.",
            ));
        }
        let options = RowOptions::from_query(parts.uri.query().unwrap_or_default())?;
        let caller_key = match kind {
            RowKind::Contact => None,
            RowKind::Event => {
                let keys = parts.headers.get_all(idempotency::HEADER).iter();
                IdempotencyKey::from_headers(keys.map(http::HeaderValue::as_bytes))?
            }
        };
        let mut row = self.clean_row(kind, &body, options)?;
        if let Some(source) = &self.contact_source {
            row.add_source(source);
        }
        let api_key = match secret.api_key.clone() {
            Some(api_key) => Some(api_key),
            // It may have been filled in a moment ago.
            None => self.secrets.refresh().await.ok().and_then(|secret| secret.api_key.clone()),
        };
        let Some(api_key) = api_key else {
            let name = self.secrets.describe_field(SecretField::LoopsApiKey);
            let message = format!("The relay has no Loops API key: put one into {name}, then run the row again.");
            return Err(RequestError::new(ErrorCode::NotConfigured, message));
        };
        let mode = if prefers_async(&parts.headers) { DeliveryMode::Async } else { DeliveryMode::Sync };
        let delivery = self.build_delivery(&row, options, caller_key);
        Ok(AcceptedRow { delivery, mode, api_key, adjusted: row.adjusted().to_vec() })
    }

    fn clean_row(&self, kind: RowKind, body: &[u8], options: RowOptions) -> Result<Row, RequestError> {
        let schema = self.schema.get(self.clock.now());
        let cleaned = Row::clean(kind, body, options, schema.as_deref());
        if cleaned.as_ref().is_err_and(RequestError::depends_on_schema) {
            self.schema.invalidate(self.clock.now());
        }
        cleaned
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<ClayToLoopsSecret>, RequestError> {
        let tokens_unavailable = |_| {
            RequestError::new(ErrorCode::Unavailable, "The relay's tokens cannot be read now: run the row again later.")
        };
        let authorization = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let mut secret = self.secrets.current().await.map_err(tokens_unavailable)?;
        if !secret.tokens.authorizes(authorization) {
            // It may be a token that was set a moment ago.
            secret = self.secrets.refresh().await.map_err(tokens_unavailable)?;
        }
        if secret.tokens.authorizes(authorization) {
            return Ok(secret);
        }
        let name = self.secrets.describe_field(SecretField::RelayTokens);
        let message = if secret.tokens.is_empty() {
            format!("The relay has no token yet, so it is closed: put one into {name}.")
        } else {
            format!(
                "The relay's token is missing or wrong: send the header Authorization with Bearer and a token of {name}."
            )
        };
        Err(RequestError::new(ErrorCode::InvalidToken, message))
    }

    fn build_delivery(&self, row: &Row, options: RowOptions, caller_key: Option<IdempotencyKey>) -> Delivery {
        let (id, kind) = match row.kind() {
            RowKind::Contact => (DeliveryId::random(&self.clock.new_id()), DeliveryKind::LoopsContact),
            RowKind::Event => {
                let key = caller_key.unwrap_or_else(|| self.event_key(row, options));
                (DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key })
            }
        };
        let received_at = self.clock.now();
        Delivery { id, contact: row.contact(), received_at, kind, body: row.to_body().into() }
    }

    fn event_key(&self, row: &Row, options: RowOptions) -> IdempotencyKey {
        if !options.dedupe {
            return IdempotencyKey::random(&self.clock.new_id());
        }
        let name = row.event_name().unwrap_or_default();
        IdempotencyKey::derive(name, row.email(), row.user_id(), row.event_properties())
    }

    async fn dispatch(&self, accepted: AcceptedRow, deadline: Instant, stats: &mut CallStats) -> RowOutcome {
        let AcceptedRow { delivery, mode, api_key, adjusted: _ } = accepted;
        // The permit comes first: a row without one is queued in one step. The handler waits for the permit's time only after
        // the row holds the contact lock, so that no other delivery of the contact overtakes it meanwhile.
        let async_preferred = mode == DeliveryMode::Async;
        let permit = if async_preferred { None } else { self.limiter.try_acquire().await };
        let mode = if permit.is_some() { DeliveryMode::Sync } else { DeliveryMode::Async };
        let (admission, permit) = match self.admit(&delivery, mode, deadline).await {
            Ok(admission) => (admission, permit),
            Err(error) => {
                error!(delivery.id = %delivery.id, error = %error, "the store cannot be written");
                // The caller preferred to have it queued; to have it delivered is as good.
                let permit = if async_preferred { self.limiter.try_acquire().await } else { permit };
                match self.admit_without_record(&delivery, permit.is_some()).await {
                    Some(admission) => (admission, permit),
                    None => return RowOutcome::unavailable("The row cannot be stored"),
                }
            }
        };
        match admission {
            Admission::Queued => RowOutcome::Queued,
            Admission::AlreadyDelivered => already_delivered(&delivery),
            Admission::InFlight => RowOutcome::unavailable("The same row is being sent right now"),
            Admission::SendNow => {
                let _guard = self.fast_path.guard(&delivery);
                // A row without a permit asks to be queued. If it is admitted all the same, it is sent at once.
                let permit = permit.unwrap_or_else(|| Permit::at(Instant::now()));
                self.send_now(&delivery, permit, api_key, deadline, stats).await
            }
        }
    }

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode, deadline: Instant) -> Result<Admission, StoreError> {
        loop {
            match self.fast_path.admit(delivery, mode).await? {
                Admission::InFlight if Instant::now() < deadline => tokio::time::sleep(BUSY_POLL_INTERVAL).await,
                admission => return Ok(admission),
            }
        }
    }

    fn sync_sender(&self) -> SyncSender<'_, S, L, P, A> {
        SyncSender { secrets: &self.secrets, loops: &self.loops, limiter: &self.limiter, clock: &self.clock }
    }

    async fn send_now(
        &self,
        delivery: &Delivery,
        permit: Permit,
        api_key: SecretString,
        deadline: Instant,
        stats: &mut CallStats,
    ) -> RowOutcome {
        let sent = self.sync_sender().send(delivery, permit, api_key, deadline, stats).await;
        let result = match &sent {
            Ok(outcome) => outcome.fast_path_result(),
            Err(Deferral { attempts, retry_after, reason }) => {
                let delay = retry::retry_delay(*attempts, *retry_after, self.clock.random());
                FastPathResult::Deferred {
                    attempts: *attempts,
                    retry_at: retry::add_saturating(self.clock.now(), delay),
                    reason: *reason,
                    no_early_retry: retry::pins_next_attempt(*retry_after, *reason),
                }
            }
        };
        let completed = self.fast_path.complete(delivery, result).await;
        if let Err(error) = &completed {
            error!(delivery.id = %delivery.id, error = %error, "direct delivery not recorded");
        }
        match sent {
            Ok(outcome) => outcome,
            Err(_) if completed.is_ok() => RowOutcome::Queued,
            Err(_) => RowOutcome::unavailable("Loops has no room and the row cannot be stored"),
        }
    }

    /// The store cannot be written. Loops may still take the row, if nothing of its contact waits, and nothing newer can get
    /// past it meanwhile; and it may be stored all the same, because only the answer to that was lost.
    async fn admit_without_record(&self, delivery: &Delivery, has_permit: bool) -> Option<Admission> {
        if !has_permit {
            return None;
        }
        match self.fast_path.admit_without_record(delivery).await {
            Ok(Admission::InFlight) => None,
            Ok(admission) => Some(admission),
            Err(error) => {
                error!(delivery.id = %delivery.id, error = %error, "row neither sent nor stored");
                None
            }
        }
    }
}

/// Outcome of a row that was delivered before. For a contact: the store's response was lost, and a worker was faster.
fn already_delivered(delivery: &Delivery) -> RowOutcome {
    match delivery.kind {
        DeliveryKind::LoopsEvent { .. } => RowOutcome::Duplicate,
        DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => {
            RowOutcome::Delivered(LoopsResponse { status: StatusCode::OK, body: Bytes::new() })
        }
    }
}

impl<S: Clone, L: Clone, D, P: Clone, A: Clone> ClayRowHandler<S, L, D, P, A> {
    /// What reads the list of properties for this handler.
    #[must_use]
    pub fn schema_refresher(&self) -> SchemaRefresher<S, L, P, A> {
        SchemaRefresher {
            cache: self.schema.clone(),
            secrets: self.secrets.clone(),
            loops: self.loops.clone(),
            limiter: self.limiter.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// Whether the caller asks for an answer at once (RFC 7240 §4.1). Preferences that are not known are not minded (§2), and
/// what stands behind a `;` is a parameter of the preference before it.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
