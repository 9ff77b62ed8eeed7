//! `POST /webhooks/loops`: verifies what Loops sends, and stores what is selected for Clay's tables.
//!
//! It calls no destination: Clay drops rows above its limits, so a queue is in between, and Loops gets its response at once.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Request, Response, StatusCode};
use relay_core::account::AccountId;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction, Reason, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::webhook::event::LoopsEvent;
use relay_core::webhook::payload::MAX_CLAY_PAYLOAD_BYTES;
use relay_core::webhook::selection::EventSelection;
use relay_core::webhook::signature::{
    ID_HEADER, SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER, Tolerance, UnverifiedWebhook,
};
use serde_json::json;
use tokio::time::Instant;

use crate::ingress::request_body::{BodyError, RequestBody};
use crate::ingress::response::{self, Caller};
use crate::ports::clock::SharedClock;
use crate::ports::queue::{Enqueued, Queue, StoreError};
use crate::ports::secrets::{LoopsToClaySecret, SecretError, SecretField, SecretSource};
use crate::telemetry::event::{DeliveryEvent, EventOutcome, Stage};

/// The handler.
#[derive(Debug, Clone)]
pub struct LoopsWebhookHandler<S, Q> {
    /// The signing secrets and the routes.
    pub secrets: S,
    /// The queue of `clay-delivery`.
    pub queue: Q,
    /// Time, random numbers and ids.
    pub clock: SharedClock,
    /// Which events are relayed.
    pub selection: EventSelection,
    /// How far the time of a signed request may be off.
    pub tolerance: Tolerance,
    /// The `source` that the relay writes into contacts, if it does. An event about such a contact is not relayed.
    pub contact_source: Option<String>,
}

/// Outcome of a verified event, and why it was dead-lettered if it was.
type WebhookOutcome = (EventOutcome, Option<ReasonCode>);

impl<S: SecretSource<LoopsToClaySecret>, Q: Queue> LoopsWebhookHandler<S, Q> {
    /// Answers one request.
    pub async fn handle(&self, request: Request<impl RequestBody>) -> Response<Bytes> {
        let started_at = Instant::now();
        let (parts, body) = request.into_parts();
        match self.verify_and_parse(&parts.headers, body).await {
            Ok((event, secret)) => {
                let mut delivery_ids = Vec::new();
                let result = self.select_and_enqueue(&event, &secret, &mut delivery_ids).await;
                respond(&event, &result, &delivery_ids, started_at)
            }
            Err(error) => self.refuse(&error, started_at),
        }
    }

    /// Returns the event of a webhook that Loops has signed, and the secret that has verified it.
    async fn verify_and_parse(
        &self,
        headers: &HeaderMap,
        body: impl RequestBody,
    ) -> Result<(LoopsEvent, Arc<LoopsToClaySecret>), RequestError> {
        if body.is_too_large() {
            return Err(BodyError::TooLarge.into_request_error(Caller::Loops));
        }
        let header = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let unverified = UnverifiedWebhook::new(header(ID_HEADER), header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER))?;
        let mut secret = self.secrets.current().await.map_err(secret_unavailable)?;
        if secret.signing_secrets.is_empty() {
            // It may have been filled in a moment ago.
            secret = self.secrets.refresh().await.map_err(secret_unavailable)?;
        }
        if secret.signing_secrets.is_empty() {
            let name = self.secrets.describe_field(SecretField::SigningSecrets);
            let message = "The relay is not configured, so no webhook is taken: look at its log.";
            let detail = format!("no signing secret is set: put the secret of Loops' webhook page into {name}");
            return Err(RequestError::new(ErrorCode::NotConfigured, message).with_log_detail(detail));
        }
        let body = body.read().await.map_err(|error| error.into_request_error(Caller::Loops))?;
        let verify = |secret: &LoopsToClaySecret| {
            unverified.verify(&body, &secret.signing_secrets, self.clock.now(), self.tolerance)
        };
        let mut verified = verify(&secret);
        if matches!(verified, Err(SignatureError::NoMatch)) {
            // It may be signed with a secret that was set a moment ago.
            secret = self.secrets.refresh().await.map_err(secret_unavailable)?;
            verified = verify(&secret);
        }
        let verified = verified.map_err(|error| signature_error(error, headers))?;
        Ok((LoopsEvent::parse(&verified)?, secret))
    }

    /// Stores an event, if it is to be relayed. `delivery_ids` gets the deliveries that it becomes, also those before an error.
    async fn select_and_enqueue(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        delivery_ids: &mut Vec<DeliveryId>,
    ) -> Result<WebhookOutcome, StoreError> {
        if event.is_test() {
            return Ok((EventOutcome::Test, None));
        }
        let selected = self.selection.selects(&event.name);
        if !selected || event.is_echo(self.contact_source.as_deref()) {
            return Ok((EventOutcome::Ignored, None));
        }
        if event.body.len() > MAX_CLAY_PAYLOAD_BYTES {
            return self.dead_letter(event, secret, ReasonCode::TooLarge, delivery_ids).await;
        }
        let mut outcome = self.enqueue_for_routes(event, secret, delivery_ids).await?;
        // The route may have been made a moment ago.
        if outcome.is_none()
            && let Ok(refreshed) = self.secrets.refresh().await
        {
            outcome = self.enqueue_for_routes(event, &refreshed, delivery_ids).await?;
        }
        match outcome {
            Some(outcome) => Ok(outcome),
            None => self.dead_letter(event, secret, ReasonCode::NoRoute, delivery_ids).await,
        }
    }

    /// Stores the event for every route that selects it. Returns nothing if there is none.
    async fn enqueue_for_routes(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        delivery_ids: &mut Vec<DeliveryId>,
    ) -> Result<Option<WebhookOutcome>, StoreError> {
        let mut outcome = None;
        for route in secret.routes_for(&event.name) {
            let delivery = self.build_delivery(event, &route.name, &secret.account);
            delivery_ids.push(delivery.id.clone());
            let route_outcome = match self.queue.enqueue_or_dead_letter_conflict(&delivery).await? {
                Enqueued::New => (EventOutcome::Queued, None),
                Enqueued::Conflict => (EventOutcome::Rejected, Some(ReasonCode::IdConflict)),
                Enqueued::Duplicate => outcome.unwrap_or((EventOutcome::Duplicate, None)),
            };
            outcome = Some(route_outcome);
        }
        Ok(outcome)
    }

    fn build_delivery(&self, event: &LoopsEvent, route: &str, account: &AccountId) -> Delivery {
        let delivery = Delivery {
            id: DeliveryId::for_webhook(route, &event.webhook_id),
            contact: event.contact.clone(),
            received_at: self.clock.now(),
            kind: DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: event.webhook_id.clone() },
            body: event.body.clone(),
        };
        delivery.in_account(account)
    }

    async fn dead_letter(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        code: ReasonCode,
        delivery_ids: &mut Vec<DeliveryId>,
    ) -> Result<WebhookOutcome, StoreError> {
        let delivery = self.build_delivery(event, "", &secret.account);
        delivery_ids.push(delivery.id.clone());
        self.queue.dead_letter(&delivery, Reason::without_status(code)).await?;
        Ok((EventOutcome::Rejected, Some(code)))
    }

    fn refuse(&self, error: &RequestError, started_at: Instant) -> Response<Bytes> {
        let id = DeliveryId::for_refused_request(&self.clock.new_id());
        let event = DeliveryEvent::new(Direction::LoopsToClay, Stage::Request, EventOutcome::Refused, id.as_str());
        DeliveryEvent {
            code: Some(error.code()),
            field: error.field(),
            error: error.log_detail(),
            duration: started_at.elapsed(),
            ..event
        }
        .emit();
        response::with_delivery_id(response::error_response(Caller::Loops, error), id.as_str())
    }
}

fn signature_error(error: SignatureError, headers: &HeaderMap) -> RequestError {
    match error {
        SignatureError::NoMatch => {
            let change = match content_encoding(headers) {
                Some(encoding) => format!("the body came with Content-Encoding {encoding}, so let the proxy undo it"),
                None => "check that no proxy changes the body".to_owned(),
            };
            let message = format!(
                "No signature matches: compare the signing secret on Loops' webhook page with the relay's, or {change}."
            );
            RequestError::new(ErrorCode::InvalidSignature, message)
        }
        SignatureError::TimestampOutOfRange(age) => {
            let (seconds, side) = (age.unsigned_abs(), if age < 0 { "ahead" } else { "ago" });
            let message = format!(
                "The webhook is signed {seconds} seconds {side}, which is too far off: check the relay's clock, or \
                 raise SIGNATURE_TOLERANCE_SECONDS."
            );
            RequestError::new(ErrorCode::TimestampOutOfRange, message)
        }
    }
}

/// Returns the encoding of a body that Loops, which signs and sends bodies as they are, has not encoded.
fn content_encoding(headers: &HeaderMap) -> Option<&str> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?;
    let is_name = encoding.len() <= 20 && encoding.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    Some(if is_name { encoding } else { "of another kind" })
}

fn secret_unavailable(_: SecretError) -> RequestError {
    RequestError::new(ErrorCode::Unavailable, "The signing secrets cannot be read now: send the webhook again later.")
}

/// Emits the event of a verified webhook, and builds its response.
fn respond(
    event: &LoopsEvent,
    result: &Result<WebhookOutcome, StoreError>,
    delivery_ids: &[DeliveryId],
    started_at: Instant,
) -> Response<Bytes> {
    let mut id = delivery_ids.iter().map(DeliveryId::as_str).collect::<Vec<_>>().join(", ");
    if id.is_empty() {
        DeliveryId::for_webhook("", &event.webhook_id).as_str().clone_into(&mut id);
    }
    let (outcome, reason, code) = match result {
        Ok((outcome, reason)) => (*outcome, reason.map(Reason::without_status), None),
        Err(_) => (EventOutcome::Refused, None, Some(ErrorCode::Unavailable)),
    };
    let error = result.as_ref().err().map(ToString::to_string);
    DeliveryEvent {
        webhook_id: Some(&event.webhook_id),
        loops_event: Some(&event.name),
        contact: Some(&event.contact),
        code,
        reason,
        error: error.as_deref(),
        duration: started_at.elapsed(),
        ..DeliveryEvent::new(Direction::LoopsToClay, Stage::Request, outcome, &id)
    }
    .emit();
    let response = match result {
        Ok(_) => {
            // A duplicate is in the queue as well.
            let status = if outcome == EventOutcome::Duplicate { EventOutcome::Queued } else { outcome };
            response::json(StatusCode::OK, &json!({"success": true, "status": status.as_str()}))
        }
        Err(_) => {
            let message = "The webhook cannot be stored now: send it again later.";
            response::error_response(Caller::Loops, &RequestError::new(ErrorCode::Unavailable, message))
        }
    };
    response::with_delivery_id(response, &id)
}
