//! `POST /webhooks/loops`: verifies what Loops sends, and stores what is selected for Clay's tables.
//!
//! It calls nobody: Clay drops what it cannot take, so a queue stands between, and Loops gets its answer at once.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction, Reason, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::webhook::event::LoopsEvent;
use relay_core::webhook::payload::MAX_CLAY_PAYLOAD_BYTES;
use relay_core::webhook::selection::EventSelection;
use relay_core::webhook::signature::{
    ID_HEADER, SIGNATURE_HEADER, SignatureError, SigningSecret, TIMESTAMP_HEADER, Tolerance, Unverified, Verified,
};
use serde_json::json;
use tokio::time::Instant;

use crate::REQUEST_BYTES;
use crate::ingress::response::{self, Caller};
use crate::ports::clock::Clock;
use crate::ports::queue::{Enqueued, Queue, StoreError};
use crate::ports::secrets::{LoopsToClaySecret, SecretField, SecretSource};
use crate::telemetry::event::{DeliveryEvent, EventOutcome, Stage};

/// What the settings say about this route.
#[derive(Debug, Clone)]
pub struct LoopsToClaySettings {
    /// Which events are relayed.
    pub selection: EventSelection,
    /// How far the time of a signed request may be off.
    pub tolerance: Tolerance,
    /// The `source` that the relay writes into contacts, if it does.
    pub contact_source: Option<String>,
}

/// The handler.
#[derive(Debug, Clone)]
pub struct LoopsWebhookHandler<S, Q, A> {
    /// The signing secrets and the routes.
    pub secrets: S,
    /// Where deliveries wait for `clay-delivery`.
    pub queue: Q,
    /// Time and chance.
    pub ambient: A,
    /// The settings.
    pub settings: LoopsToClaySettings,
}

/// What was done with a verified event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WebhookOutcome {
    /// It is stored for every route that takes it.
    Queued,
    /// It was stored before, for every route that takes it.
    Duplicate,
    /// It is not wanted.
    Ignored,
    /// It only tried the endpoint.
    Test,
    /// It cannot be passed on, and is kept as a dead letter.
    Rejected(ReasonCode),
}

impl WebhookOutcome {
    const fn status(self) -> &'static str {
        match self {
            Self::Queued | Self::Duplicate => "queued",
            Self::Ignored => "ignored",
            Self::Test => "test",
            Self::Rejected(_) => "rejected",
        }
    }
}

impl<S, Q, A> LoopsWebhookHandler<S, Q, A>
where
    S: SecretSource<LoopsToClaySecret>,
    Q: Queue,
    A: Clock,
{
    /// Answers one request.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let begun = Instant::now();
        let (parts, body) = request.into_parts();
        match self.verify(&parts.headers, body).await {
            Ok((verified, secret)) => match LoopsEvent::parse(&verified) {
                Ok(event) => {
                    let mut ids = Vec::new();
                    let taken = self.process(&event, &secret, &mut ids).await;
                    respond(&event, &taken, &ids, begun)
                }
                Err(refusal) => self.reject(&refusal, begun),
            },
            Err(refusal) => self.reject(&refusal, begun),
        }
    }

    async fn verify(
        &self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(Verified, std::sync::Arc<LoopsToClaySecret>), RequestError> {
        if body.len() > REQUEST_BYTES {
            return Err(RequestError::new(
                ErrorCode::TooLarge,
                "The webhook is larger than 256 KiB: nothing was relayed.",
            ));
        }
        let header = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let unverified = Unverified::new(header(ID_HEADER), header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER), body)?;
        let mut secret = self.secrets.current().await.map_err(|_| self.unavailable())?;
        if secret.signing_secrets.is_empty() {
            // It may have been filled in a moment ago.
            secret = self.secrets.refresh().await.map_err(|_| self.unavailable())?;
        }
        if secret.signing_secrets.is_empty() {
            return Err(RequestError::new(
                ErrorCode::NotConfigured,
                format!(
                    "No signing secret is set, so no webhook is taken: put the secret of Loops' webhook page into {}.",
                    self.secrets.describe_field(SecretField::SigningSecrets)
                ),
            ));
        }
        match self.verify_signature(&unverified, &secret.signing_secrets) {
            // It may be signed with a secret that was set a moment ago.
            Err(SignatureError::NoMatch) => {
                let secret = self.secrets.refresh().await.map_err(|_| self.unavailable())?;
                let verified = self
                    .verify_signature(&unverified, &secret.signing_secrets)
                    .map_err(|error| self.signature_error(error))?;
                Ok((verified, secret))
            }
            checked => checked.map(|verified| (verified, secret)).map_err(|error| self.signature_error(error)),
        }
    }

    fn verify_signature(&self, unverified: &Unverified, secrets: &[SigningSecret]) -> Result<Verified, SignatureError> {
        unverified.verify(secrets, self.ambient.now(), self.settings.tolerance)
    }

    fn signature_error(&self, error: SignatureError) -> RequestError {
        match error {
            SignatureError::NoMatch => RequestError::new(
                ErrorCode::InvalidSignature,
                format!(
                    "No signature matches: compare the signing secret on Loops' webhook page with {}.",
                    self.secrets.describe_field(SecretField::SigningSecrets)
                ),
            ),
            SignatureError::OutOfRange(age) => {
                let (seconds, side) = (age.unsigned_abs(), if age < 0 { "ahead" } else { "ago" });
                let message = format!(
                    "The webhook is signed {seconds} seconds {side}, which is too far off: check the relay's clock, or \
                     raise SIGNATURE_TOLERANCE_SECONDS."
                );
                RequestError::new(ErrorCode::TimestampOutOfRange, message)
            }
        }
    }

    fn unavailable(&self) -> RequestError {
        RequestError::new(
            ErrorCode::Unavailable,
            "The signing secrets cannot be read now: send the webhook again later.",
        )
    }

    /// Does what is to be done with an event; `ids` gets the deliveries that it becomes.
    async fn process(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        ids: &mut Vec<DeliveryId>,
    ) -> Result<WebhookOutcome, StoreError> {
        if event.is_test() {
            return Ok(WebhookOutcome::Test);
        }
        let wanted = self.settings.selection.selects(event.name());
        if !wanted || event.is_echo(self.settings.contact_source.as_deref()) {
            return Ok(WebhookOutcome::Ignored);
        }
        if event.body().len() > MAX_CLAY_PAYLOAD_BYTES {
            return self.dead_letter(event, ReasonCode::TooLarge, ids).await;
        }
        let taken = match self.enqueue_for_routes(event, secret, ids).await? {
            Some(taken) => Some(taken),
            // The route may have been made a moment ago.
            None => match self.secrets.refresh().await {
                Ok(secret) => self.enqueue_for_routes(event, &secret, ids).await?,
                Err(_) => None,
            },
        };
        match taken {
            Some(taken) => Ok(taken),
            None => self.dead_letter(event, ReasonCode::NoRoute, ids).await,
        }
    }

    /// Stores the event for every route that takes it; nothing where there is none.
    async fn enqueue_for_routes(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        ids: &mut Vec<DeliveryId>,
    ) -> Result<Option<WebhookOutcome>, StoreError> {
        let mut taken = None;
        for route in secret.routes.iter().filter(|route| route.events.selects(event.name())) {
            let delivery = self.delivery(event, &route.name);
            ids.push(delivery.id.clone());
            let now = match self.queue.enqueue_or_dead_letter_conflict(&delivery).await? {
                Enqueued::New => WebhookOutcome::Queued,
                Enqueued::Duplicate => WebhookOutcome::Duplicate,
                Enqueued::Conflict => WebhookOutcome::Rejected(ReasonCode::IdConflict),
            };
            taken = match taken {
                Some(known) if now == WebhookOutcome::Duplicate => Some(known),
                _ => Some(now),
            };
        }
        Ok(taken)
    }

    fn delivery(&self, event: &LoopsEvent, route: &str) -> Delivery {
        Delivery {
            id: DeliveryId::for_webhook(route, event.webhook_id()),
            contact: event.contact().clone(),
            received_at: self.ambient.now(),
            kind: DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: event.webhook_id().to_owned() },
            body: event.body().clone(),
        }
    }

    async fn dead_letter(
        &self,
        event: &LoopsEvent,
        code: ReasonCode,
        ids: &mut Vec<DeliveryId>,
    ) -> Result<WebhookOutcome, StoreError> {
        let delivery = self.delivery(event, "");
        ids.push(delivery.id.clone());
        self.queue.dead_letter(&delivery, Reason::without_status(code)).await?;
        Ok(WebhookOutcome::Rejected(code))
    }

    fn reject(&self, refusal: &RequestError, begun: Instant) -> Response<Bytes> {
        let id = DeliveryId::for_rejected_request(&self.ambient.new_id());
        let signal = DeliveryEvent::new(Direction::LoopsToClay, Stage::Request, EventOutcome::Refused, id.as_str());
        DeliveryEvent { code: Some(refusal.code()), field: refusal.field(), duration: begun.elapsed(), ..signal }
            .emit();
        response::with_delivery_id(response::error_response(Caller::Loops, refusal), id.as_str())
    }
}

fn respond(
    event: &LoopsEvent,
    taken: &Result<WebhookOutcome, StoreError>,
    ids: &[DeliveryId],
    begun: Instant,
) -> Response<Bytes> {
    let ids: Vec<&str> = ids.iter().map(DeliveryId::as_str).collect();
    let id = match ids.as_slice() {
        // Nothing was stored of it.
        [] => DeliveryId::for_webhook("", event.webhook_id()).as_str().to_owned(),
        ids => ids.join(", "),
    };
    let (became, reason, code) = match taken {
        Ok(WebhookOutcome::Queued) => (EventOutcome::Queued, None, None),
        Ok(WebhookOutcome::Duplicate) => (EventOutcome::Duplicate, None, None),
        Ok(WebhookOutcome::Ignored) => (EventOutcome::Ignored, None, None),
        Ok(WebhookOutcome::Test) => (EventOutcome::Test, None, None),
        Ok(WebhookOutcome::Rejected(code)) => (EventOutcome::Rejected, Some(Reason::without_status(*code)), None),
        Err(_) => (EventOutcome::Refused, None, Some(ErrorCode::Unavailable)),
    };
    let error = taken.as_ref().err().map(ToString::to_string);
    DeliveryEvent {
        webhook_id: Some(event.webhook_id()),
        event: Some(event.name()),
        contact: Some(event.contact()),
        code,
        reason,
        error: error.as_deref(),
        duration: begun.elapsed(),
        ..DeliveryEvent::new(Direction::LoopsToClay, Stage::Request, became, &id)
    }
    .emit();
    let response = match taken {
        Ok(taken) => response::json(StatusCode::OK, &json!({"success": true, "status": taken.status()})),
        Err(_) => {
            let message = "The webhook cannot be stored now: send it again later.";
            response::error_response(Caller::Loops, &RequestError::new(ErrorCode::Unavailable, message))
        }
    };
    response::with_delivery_id(response, &id)
}
