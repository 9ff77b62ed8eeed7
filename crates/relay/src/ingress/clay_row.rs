//! `PUT /api/v1/contacts/update` and `POST /api/v1/events/send`: a row of a Clay table becomes a Loops contact or event.
//!
//! Where Loops has room, the row is answered with Loops' own answer; where it has none, the row is stored, and answered
//! with 202. Every request is one of the [`Ending`]s, and one place turns that into the answer.

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

use crate::REQUEST_BYTES;
use crate::destination::loops::LoopsApi;
use crate::ingress::row_outcome::{LoopsResponse, RowContext, RowOutcome};
use crate::ingress::schema_cache::{SchemaCache, SchemaRefresher};
use crate::ingress::sync_send::{SyncResult, SyncSender};
use crate::ports::clock::Clock;
use crate::ports::queue::{Admission, DeliveryMode, FastPath, FastPathResult, StoreError};
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::rate_limit::limiter::{Permit, RateLimiter};
use crate::telemetry::event::CallStats;

/// The time in which a row is answered: below what Clay's column waits, and below a gateway's 30 s.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(10);
/// How often a caller whose twin is being sent asks again.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The handler of both routes.
#[derive(Debug, Clone)]
pub struct ClayRowHandler<S, L, D, P, A> {
    /// The relay tokens and the Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The lane past the queue, and the queue.
    pub lane: D,
    /// The pace of calls to Loops, shared with the worker.
    pub pace: P,
    /// Time and chance.
    pub ambient: A,
    /// The `source` that is written into contacts that carry none, if it is set.
    pub contact_source: Option<String>,
    /// What is known of the account's properties.
    pub properties: SchemaCache,
}

/// A request that may be sent: authenticated, read and clean.
struct AcceptedRow {
    delivery: Delivery,
    wish: DeliveryMode,
    api_key: SecretString,
    /// The fields that were left out or cut.
    adjusted: Vec<String>,
}

impl<S, L, D, P, A> ClayRowHandler<S, L, D, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    D: FastPath,
    P: RateLimiter,
    A: Clock,
{
    /// Answers one request of the route for that kind of row.
    pub async fn handle(&self, kind: RowKind, request: Request<Bytes>) -> Response<Bytes> {
        let (begun, mut tally) = (Instant::now(), CallStats::default());
        let deadline = begun + RESPONSE_DEADLINE;
        let (about, ending) = match self.accept(kind, request).await {
            Ok(mut wanted) => {
                let id = wanted.delivery.id.clone();
                let adjusted = std::mem::take(&mut wanted.adjusted);
                let contact = Some(wanted.delivery.contact.clone());
                let about = RowContext { id, contact, adjusted, later: wanted.wish == DeliveryMode::Async };
                (about, self.dispatch(wanted, deadline, &mut tally).await)
            }
            Err(refusal) => (RowContext::for_rejected(&self.ambient.new_id()), RowOutcome::Refused(refusal)),
        };
        ending.log(kind, &about, begun.elapsed(), tally);
        ending.answer(&about)
    }

    async fn accept(&self, kind: RowKind, request: Request<Bytes>) -> Result<AcceptedRow, RequestError> {
        let (parts, body) = request.into_parts();
        let secret = self.authenticate(&parts.headers).await?;
        if body.len() > REQUEST_BYTES {
            return Err(RequestError::new(
                ErrorCode::TooLarge,
                "The row is larger than 256 KiB: take columns out of the body of the HTTP API column.",
            ));
        }
        let options = RowOptions::from_query(parts.uri.query().unwrap_or_default())?;
        let given_key = match kind {
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
        let wish = if wants_async(&parts.headers) { DeliveryMode::Async } else { DeliveryMode::Sync };
        let delivery = self.delivery(&row, options, given_key);
        Ok(AcceptedRow { delivery, wish, api_key, adjusted: row.adjusted().to_vec() })
    }

    fn clean_row(&self, kind: RowKind, body: &[u8], options: RowOptions) -> Result<Row, RequestError> {
        let properties = self.properties.get(self.ambient.now());
        let cleaned = Row::clean_with_schema(kind, body, options, properties.as_deref());
        if cleaned.as_ref().is_err_and(RequestError::depends_on_schema) {
            self.properties.invalidate(self.ambient.now());
        }
        cleaned
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<ClayToLoopsSecret>, RequestError> {
        let unreadable = |_| {
            RequestError::new(ErrorCode::Unavailable, "The relay's tokens cannot be read now: run the row again later.")
        };
        let authorization = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let mut secret = self.secrets.current().await.map_err(unreadable)?;
        if !secret.tokens.authorizes(authorization) {
            // It may be a token that was set a moment ago.
            secret = self.secrets.refresh().await.map_err(unreadable)?;
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

    fn delivery(&self, row: &Row, options: RowOptions, given_key: Option<IdempotencyKey>) -> Delivery {
        let (id, cargo) = match row.kind() {
            RowKind::Contact => (DeliveryId::random(&self.ambient.new_id()), DeliveryKind::LoopsContact),
            RowKind::Event => {
                let key = given_key.unwrap_or_else(|| self.event_key(row, options));
                (DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key })
            }
        };
        let received_at = self.ambient.now();
        Delivery { id, contact: row.contact(), received_at, kind: cargo, body: row.to_body().into() }
    }

    fn event_key(&self, row: &Row, options: RowOptions) -> IdempotencyKey {
        if !options.dedupe {
            return IdempotencyKey::random(&self.ambient.new_id());
        }
        let name = row.event_name().unwrap_or_default();
        IdempotencyKey::derive(name, row.email(), row.user_id(), row.event_properties())
    }

    async fn dispatch(&self, wanted: AcceptedRow, deadline: Instant, tally: &mut CallStats) -> RowOutcome {
        let AcceptedRow { delivery, wish, api_key, adjusted: _ } = wanted;
        // Room is asked for first: a row that finds none is stored in one step. The turn is waited for only after the row
        // has its place in the lane, so that no other of its contact gets past it meanwhile.
        let preferred = wish == DeliveryMode::Async;
        let turn = if preferred { None } else { self.pace.try_acquire().await };
        let wish = if turn.is_some() { DeliveryMode::Sync } else { DeliveryMode::Async };
        let (admission, turn) = match self.admit(&delivery, wish, deadline).await {
            Ok(admission) => (admission, turn),
            Err(error) => {
                error!(delivery.id = %delivery.id, error = %error, "the store cannot be written");
                // To have it stored was a wish; to have it delivered is as good.
                let turn = if preferred { self.pace.try_acquire().await } else { turn };
                match self.admit_unstored(&delivery, turn.is_some()).await {
                    Some(admission) => (admission, turn),
                    None => return RowOutcome::unavailable("The row cannot be stored"),
                }
            }
        };
        match admission {
            Admission::Queued => RowOutcome::Queued,
            Admission::AlreadyDelivered => already_delivered(&delivery),
            Admission::InFlight => RowOutcome::unavailable("The same row is being sent right now"),
            Admission::Direct => {
                let _guard = self.lane.guard(&delivery);
                // Only who has a turn wishes to be admitted; who is admitted all the same sends at once.
                let turn = turn.unwrap_or_else(|| Permit::at(Instant::now()));
                self.send_directly(&delivery, turn, api_key, deadline, tally).await
            }
        }
    }

    async fn admit(&self, delivery: &Delivery, wish: DeliveryMode, deadline: Instant) -> Result<Admission, StoreError> {
        loop {
            match self.lane.admit(delivery, wish).await? {
                Admission::InFlight if Instant::now() < deadline => tokio::time::sleep(BUSY_POLL_INTERVAL).await,
                admission => return Ok(admission),
            }
        }
    }

    fn sync_sender(&self) -> SyncSender<'_, S, L, P, A> {
        SyncSender { secrets: &self.secrets, loops: &self.loops, pace: &self.pace, ambient: &self.ambient }
    }

    async fn send_directly(
        &self,
        delivery: &Delivery,
        turn: Permit,
        api_key: SecretString,
        deadline: Instant,
        tally: &mut CallStats,
    ) -> RowOutcome {
        let attempt = self.sync_sender().attempt(delivery, turn, api_key, deadline, tally).await;
        let end = match &attempt {
            SyncResult::Delivered(_) | SyncResult::Duplicate => FastPathResult::Delivered,
            SyncResult::Rejected { .. } | SyncResult::Unauthorized(_) => FastPathResult::Rejected,
            SyncResult::Failed { attempts, asked, reason } => {
                let wait = retry::retry_delay(*attempts, *asked, self.ambient.random());
                FastPathResult::Deferred {
                    attempts: *attempts,
                    at: retry::add_saturating(self.ambient.now(), wait),
                    reason: *reason,
                    firm: retry::pins_next_attempt(*asked, *reason),
                }
            }
        };
        let settled = self.lane.complete(delivery, end).await;
        if let Err(error) = &settled {
            error!(delivery.id = %delivery.id, error = %error, "direct delivery not recorded");
        }
        outcome_of(attempt, settled.is_ok())
    }

    /// The store cannot be written. Loops may still take the row, if nothing of its contact waits, and nothing newer can get
    /// past it meanwhile; and it may be stored all the same, because only the answer to that was lost.
    async fn admit_unstored(&self, delivery: &Delivery, has_turn: bool) -> Option<Admission> {
        if !has_turn {
            return None;
        }
        match self.lane.admit_without_record(delivery).await {
            Ok(Admission::InFlight) => None,
            Ok(admission) => Some(admission),
            Err(error) => {
                error!(delivery.id = %delivery.id, error = %error, "row neither sent nor stored");
                None
            }
        }
    }
}

/// What was delivered before; a contact only where its storing was not answered, and a worker has been faster.
fn already_delivered(delivery: &Delivery) -> RowOutcome {
    match delivery.kind {
        DeliveryKind::LoopsEvent { .. } => RowOutcome::Duplicate,
        DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => {
            RowOutcome::Delivered(LoopsResponse { status: StatusCode::OK, body: Bytes::new() })
        }
    }
}

/// How a row ends that was tried; `kept` where it is stored should it have failed.
fn outcome_of(attempt: SyncResult, kept: bool) -> RowOutcome {
    match attempt {
        SyncResult::Delivered(answer) => RowOutcome::Delivered(answer),
        SyncResult::Duplicate => RowOutcome::Duplicate,
        SyncResult::Rejected { status, message } => RowOutcome::LoopsRejected { status, message },
        SyncResult::Unauthorized(refusal) => RowOutcome::Refused(refusal),
        SyncResult::Failed { .. } if kept => RowOutcome::Queued,
        SyncResult::Failed { .. } => RowOutcome::unavailable("Loops has no room and the row cannot be stored"),
    }
}

impl<S: Clone, L: Clone, D, P: Clone, A: Clone> ClayRowHandler<S, L, D, P, A> {
    /// What reads the list of properties for this handler.
    #[must_use]
    pub fn property_reader(&self) -> SchemaRefresher<S, L, P, A> {
        SchemaRefresher {
            list: self.properties.clone(),
            secrets: self.secrets.clone(),
            loops: self.loops.clone(),
            pace: self.pace.clone(),
            ambient: self.ambient.clone(),
        }
    }
}

/// Whether the caller asks for an answer at once (RFC 7240 §4.1). Preferences that are not known are not minded (§2), and
/// what stands behind a `;` is a parameter of the preference before it.
fn wants_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
