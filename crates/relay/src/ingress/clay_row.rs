//! The calls that write: a row of a Clay table updates, creates or deletes a Loops contact, sends an event or an e-mail.
//!
//! If the rate limit allows it and no row of its contact is in front, the row is sent at once and the caller gets Loops'
//! response. Otherwise, or if Loops does not accept it in time, it is queued, and the caller gets a 202.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::idempotency::{self, IdempotencyKey};
use relay_core::row::{Row, RowKind, RowOptions};
use relay_core::secret::SecretString;
use tokio::time::{Duration, Instant};
use tracing::error;

use crate::destination::loops::LoopsClient;
use crate::ingress::authentication::{Authenticated, authenticate};
use crate::ingress::request_body::{BodyError, RequestBody};
use crate::ingress::response::Caller;
use crate::ingress::row_outcome::{RowContext, RowOutcome};
use crate::ingress::schema_cache::{SchemaCache, SchemaRefresher};
use crate::ingress::sync_send::{SyncSender, loops_key_rejected};
use crate::ports::clock::SharedClock;
use crate::ports::queue::StoreError;
use crate::ports::rate_limiter::{Permit, RateLimiter};
use crate::ports::row_intake::{Admission, DeliveryMode, RowIntake};
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::routes::ApiRoute;
use crate::telemetry::event::CallStats;

/// Deadline of the response, from the request's head on: before Clay's column gives up, and before a gateway does after 30 s.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(10);
/// Poll interval while a duplicate of the row is in flight.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The handler of all these routes.
#[derive(Debug, Clone)]
pub struct ClayRowHandler<S, L, D, P> {
    /// The relay tokens and the Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The contact locks and the queue.
    pub intake: D,
    /// The rate limiter of Loops, shared with the worker.
    pub limiter: Arc<P>,
    /// Time, random numbers and ids.
    pub clock: SharedClock,
    /// The `source` that is written into contacts that carry none, if it is set.
    pub contact_source: Option<String>,
    /// The account's contact properties.
    pub schema: SchemaCache,
}

impl<S: SecretSource<ClayToLoopsSecret>, L: LoopsClient, D: RowIntake, P: RateLimiter> ClayRowHandler<S, L, D, P> {
    /// Answers one request of the route for that kind of row.
    pub async fn handle(&self, kind: RowKind, request: Request<impl RequestBody>) -> Response<Bytes> {
        let (started_at, mut stats) = (Instant::now(), CallStats::default());
        let deadline = started_at + RESPONSE_DEADLINE;
        let (parts, body) = request.into_parts();
        let (token_name, accepted) =
            match authenticate(&self.secrets, &parts.headers, ApiRoute::Row(kind).scope()).await {
                Ok(Authenticated { secret, token_name }) => (token_name, self.accept(kind, secret, &parts, body).await),
                Err(error) => (None, Err(error)),
            };
        let (context, outcome) = match accepted {
            Ok((delivery, api_key, context)) => {
                let outcome = if context.dry_run {
                    self.dry_run(&delivery).await
                } else {
                    self.dispatch(&delivery, api_key, context.prefers_async, deadline, &mut stats).await
                };
                (context, outcome)
            }
            Err(error) => {
                let id = DeliveryId::for_refused_request(&self.clock.new_id());
                (
                    RowContext { id, contact: None, adjusted: Vec::new(), prefers_async: false, dry_run: false },
                    error.into(),
                )
            }
        };
        outcome.log(kind, &context, token_name.as_deref(), started_at.elapsed(), stats);
        outcome.into_response(&context)
    }

    /// Returns the delivery of an authenticated caller's row, if it is clean, and the key to send it with, unless it must wait for
    /// that.
    async fn accept(
        &self,
        kind: RowKind,
        secret: Arc<ClayToLoopsSecret>,
        parts: &Parts,
        body: impl RequestBody,
    ) -> Result<(Delivery, Option<SecretString>, RowContext), RequestError> {
        let body = body.read().await.map_err(|error| error.into_request_error(Caller::Clay))?;
        let options = RowOptions::from_query(parts.uri.query().unwrap_or_default())?;
        let caller_key = match kind {
            RowKind::Contact | RowKind::Create | RowKind::Delete => None,
            RowKind::Event | RowKind::Email => {
                let keys = parts.headers.get_all(idempotency::HEADER).iter();
                IdempotencyKey::from_headers(keys.map(http::HeaderValue::as_bytes))?
            }
        };
        let mut row = self.clean_row(kind, &body, options)?;
        if let Some(source) = &self.contact_source {
            row.add_source(source);
        }
        let secret = match &secret.api_key {
            Some(_) => secret,
            // It may have been filled in a moment ago.
            None => self.secrets.refresh().await.unwrap_or(secret),
        };
        let api_key = self.usable_key(&secret)?;
        let delivery = self.build_delivery(&row, options, caller_key).in_account(&secret.account.id);
        // Escapes may have made it larger than it came, and a store takes only so much.
        if delivery.body.is_too_large() {
            return Err(BodyError::TooLarge.into_request_error(Caller::Clay));
        }
        let context = RowContext {
            id: delivery.id.clone(),
            contact: Some(delivery.contact.clone()),
            adjusted: row.adjusted().to_vec(),
            prefers_async: prefers_async(&parts.headers),
            dry_run: options.dry_run,
        };
        Ok((delivery, api_key, context))
    }

    /// Returns the Loops key, or nothing while it is not known which account it opens: rows are stored then.
    fn usable_key(&self, secret: &ClayToLoopsSecret) -> Result<Option<SecretString>, RequestError> {
        let name = self.secrets.describe_field(SecretField::LoopsApiKey);
        match (&secret.api_key, secret.account.doubt) {
            (Some(api_key), None) => Ok(Some(api_key.clone())),
            (Some(_), Some(ReasonCode::LoopsKeyRejected)) => Err(loops_key_rejected(&name)),
            (Some(_), Some(_)) => Ok(None),
            (None, _) => {
                let message = format!("The relay has no Loops API key: put one into {name}, then run the row again.");
                Err(RequestError::new(ErrorCode::NotConfigured, message))
            }
        }
    }

    fn clean_row(&self, kind: RowKind, body: &[u8], options: RowOptions) -> Result<Row, RequestError> {
        let schema = self.schema.get(self.clock.now());
        let cleaned = Row::clean(kind, body, options, schema.as_deref());
        if !options.dry_run && cleaned.as_ref().is_err_and(RequestError::depends_on_schema) {
            self.schema.invalidate(self.clock.now());
        }
        cleaned
    }

    fn build_delivery(&self, row: &Row, options: RowOptions, caller_key: Option<IdempotencyKey>) -> Delivery {
        let key = || {
            caller_key.unwrap_or_else(|| {
                if options.dedupe { row.derive_key() } else { IdempotencyKey::random(&self.clock.new_id()) }
            })
        };
        let random_id = || DeliveryId::random(&self.clock.new_id());
        let (id, kind) = match row.kind() {
            RowKind::Contact => (random_id(), DeliveryKind::LoopsContact),
            RowKind::Create => (random_id(), DeliveryKind::LoopsCreate),
            RowKind::Delete => (random_id(), DeliveryKind::LoopsDelete),
            RowKind::Event | RowKind::Email => {
                let (key, is_event) = (key(), row.kind() == RowKind::Event);
                let id = DeliveryId::for_event(&key);
                (id, if is_event { DeliveryKind::LoopsEvent { key } } else { DeliveryKind::LoopsEmail { key } })
            }
        };
        let received_at = self.clock.now();
        Delivery { id, contact: row.contact(), received_at, kind, body: row.to_body().into() }
    }

    /// Returns what would be sent, and whether it was sent or waits already. Calls, writes and counts nothing.
    async fn dry_run(&self, delivery: &Delivery) -> RowOutcome {
        match self.intake.preview(delivery).await {
            Ok(Admission::KeyOfOtherContact) => RowOutcome::key_of_other_contact(),
            Ok(Admission::OutcomeUnknown) => RowOutcome::outcome_unknown(),
            Ok(admission) => {
                let (body, key) = (delivery.body.clone(), delivery.kind.idempotency_key().cloned());
                RowOutcome::DryRun { body, key, duplicate: admission != Admission::SendNow }
            }
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the store cannot be read");
                RowOutcome::unavailable("The store of what was sent cannot be read")
            }
        }
    }

    async fn dispatch(
        &self,
        delivery: &Delivery,
        api_key: Option<SecretString>,
        prefers_async: bool,
        deadline: Instant,
        stats: &mut CallStats,
    ) -> RowOutcome {
        // The permit comes first: a row without one is queued in one step. The handler waits for the permit's time only after
        // the row holds the contact lock, so that no other delivery of the contact overtakes it meanwhile.
        let permit = if prefers_async || api_key.is_none() { None } else { self.limiter.try_acquire().await };
        let mode = if permit.is_some() { DeliveryMode::Sync } else { DeliveryMode::Async };
        let (admission, permit) = match self.admit(delivery, mode, deadline).await {
            Ok(admission) => (admission, permit),
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the store cannot be written");
                // The caller preferred to have it queued; to have it delivered is as good.
                let permit = if prefers_async && api_key.is_some() { self.limiter.try_acquire().await } else { permit };
                let admission = if permit.is_some() { self.admit_without_record(delivery).await } else { None };
                let Some(admission) = admission else { return RowOutcome::unavailable("The row cannot be stored") };
                (admission, permit)
            }
        };
        match admission {
            Admission::Queued => RowOutcome::Queued,
            // The account that has the event may be another one than the new key's.
            Admission::AlreadyDelivered if api_key.is_none() => {
                RowOutcome::unavailable("Loops cannot be asked now which account the relay's new key opens")
            }
            Admission::AlreadyDelivered if delivery.kind.idempotency_key().is_some() => RowOutcome::Duplicate,
            // A contact whose first response from the store was lost, so that a worker was faster.
            Admission::AlreadyDelivered => RowOutcome::Delivered { status: StatusCode::OK, body: Bytes::new() },
            Admission::InFlight => RowOutcome::unavailable("The same row is being sent right now"),
            Admission::KeyOfOtherContact => RowOutcome::key_of_other_contact(),
            Admission::OutcomeUnknown => RowOutcome::outcome_unknown(),
            Admission::SendNow => {
                let _guard = self.intake.guard(delivery);
                // A row without a permit asks to be queued. If it is admitted all the same, it is sent at once.
                let permit = permit.unwrap_or_else(|| Permit(Instant::now()));
                self.send_now(delivery, permit, api_key, deadline, stats).await
            }
        }
    }

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode, deadline: Instant) -> Result<Admission, StoreError> {
        loop {
            match self.intake.admit(delivery, mode).await? {
                Admission::InFlight if Instant::now() < deadline => tokio::time::sleep(BUSY_POLL_INTERVAL).await,
                admission => return Ok(admission),
            }
        }
    }

    async fn send_now(
        &self,
        delivery: &Delivery,
        permit: Permit,
        api_key: Option<SecretString>,
        deadline: Instant,
        stats: &mut CallStats,
    ) -> RowOutcome {
        let (secrets, loops, limiter, clock) = (&self.secrets, &self.loops, &*self.limiter, &self.clock);
        let sender = SyncSender { secrets, loops, limiter, clock };
        let sent = match api_key {
            Some(api_key) => sender.send(delivery, permit, api_key, deadline, stats).await,
            None => Err(sender.defer(0, None, Reason::without_status(ReasonCode::Unreachable), stats)),
        };
        let result = sent.as_ref().map_or_else(|deferred| *deferred, |outcome| outcome.sync_send_result(stats));
        let completed = self.intake.complete(delivery, result).await;
        if let Err(error) = &completed {
            error!(delivery.id = %delivery.id, %error, "direct delivery not recorded");
        }
        match sent {
            Ok(outcome) => outcome,
            Err(_) if completed.is_ok() => RowOutcome::Queued,
            Err(_) => RowOutcome::unavailable("Loops has no room and the row cannot be stored"),
        }
    }

    /// Admits a row that could not be written to the store. Loops may still take it, if no other delivery of its contact is
    /// queued, and no newer one can overtake it meanwhile. It may also be stored all the same, if only the store's response
    /// was lost.
    async fn admit_without_record(&self, delivery: &Delivery) -> Option<Admission> {
        let admitted = self.intake.admit_without_record(delivery).await;
        let admitted = admitted.inspect_err(|error| {
            error!(delivery.id = %delivery.id, %error, "row neither sent nor stored");
        });
        admitted.ok().filter(|admission| *admission != Admission::InFlight)
    }
}

impl<S: Clone, L: Clone, D, P> ClayRowHandler<S, L, D, P> {
    /// Returns the refresher of this handler's schema.
    pub fn schema_refresher(&self) -> SchemaRefresher<S, L, P> {
        SchemaRefresher {
            cache: self.schema.clone(),
            secrets: self.secrets.clone(),
            loops: self.loops.clone(),
            limiter: Arc::clone(&self.limiter),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Whether the caller asks for a response at once (RFC 7240 §4.1). Unknown preferences are ignored (§2), and a `;` begins a
/// parameter of the preference before it.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
