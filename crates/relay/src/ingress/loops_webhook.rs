//! `POST /webhooks/loops`: verifies what Loops sends, and stores what is selected for Clay's tables.
//!
//! It calls nobody: Clay drops what it cannot take, so a queue stands between, and Loops gets its answer at once.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use relay_core::delivery::{Cargo, Delivery, DeliveryId, Direction, Reason, ReasonCode};
use relay_core::error::{Code, Refusal};
use relay_core::webhook::event::LoopsEvent;
use relay_core::webhook::payload::CLAY_BYTES;
use relay_core::webhook::selection::EventSelection;
use relay_core::webhook::signature::{
    ID_HEADER, SIGNATURE_HEADER, SignatureFault, SigningSecret, TIMESTAMP_HEADER, Tolerance, Unverified, Verified,
};
use serde_json::json;
use tokio::time::Instant;

use crate::REQUEST_BYTES;
use crate::ingress::response::{self, Caller};
use crate::ports::clock::Ambient;
use crate::ports::queue::{Queue, StoreFault, Stored};
use crate::ports::secrets::{LoopsToClaySecret, SecretField, SecretSource};
use crate::telemetry::event::{Became, Place, Signal};

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
pub struct LoopsToClay<S, Q, A> {
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
enum Taken {
    /// It is stored for every route that takes it.
    Queued,
    /// It was stored before, for every route that takes it.
    Repeat,
    /// It is not wanted.
    Ignored,
    /// It only tried the endpoint.
    Test,
    /// It cannot be passed on, and is kept as a dead letter.
    Rejected(ReasonCode),
}

impl Taken {
    const fn status(self) -> &'static str {
        match self {
            Self::Queued | Self::Repeat => "queued",
            Self::Ignored => "ignored",
            Self::Test => "test",
            Self::Rejected(_) => "rejected",
        }
    }
}

impl<S, Q, A> LoopsToClay<S, Q, A>
where
    S: SecretSource<LoopsToClaySecret>,
    Q: Queue,
    A: Ambient,
{
    /// Answers one request.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let begun = Instant::now();
        let (parts, body) = request.into_parts();
        match self.verify(&parts.headers, body).await {
            Ok((verified, secret)) => match LoopsEvent::read(&verified) {
                Ok(event) => {
                    let mut ids = Vec::new();
                    let taken = self.take(&event, &secret, &mut ids).await;
                    answer(&event, &taken, &ids, begun)
                }
                Err(refusal) => self.refuse(&refusal, begun),
            },
            Err(refusal) => self.refuse(&refusal, begun),
        }
    }

    async fn verify(
        &self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(Verified, std::sync::Arc<LoopsToClaySecret>), Refusal> {
        if body.len() > REQUEST_BYTES {
            return Err(Refusal::new(Code::TooLarge, "The webhook is larger than 256 KiB: nothing was relayed."));
        }
        let header = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let unverified = Unverified::new(header(ID_HEADER), header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER), body)?;
        let mut secret = self.secrets.current().await.map_err(|_| self.unavailable())?;
        if secret.signing_secrets.is_empty() {
            // It may have been filled in a moment ago.
            secret = self.secrets.reread().await.map_err(|_| self.unavailable())?;
        }
        if secret.signing_secrets.is_empty() {
            return Err(Refusal::new(
                Code::NotConfigured,
                format!(
                    "No signing secret is set, so no webhook is taken: put the secret of Loops' webhook page into {}.",
                    self.secrets.name_of(SecretField::SigningSecrets)
                ),
            ));
        }
        match self.check(&unverified, &secret.signing_secrets) {
            // It may be signed with a secret that was set a moment ago.
            Err(SignatureFault::NoMatch) => {
                let secret = self.secrets.reread().await.map_err(|_| self.unavailable())?;
                let verified = self.check(&unverified, &secret.signing_secrets).map_err(|fault| self.forged(fault))?;
                Ok((verified, secret))
            }
            checked => checked.map(|verified| (verified, secret)).map_err(|fault| self.forged(fault)),
        }
    }

    fn check(&self, unverified: &Unverified, secrets: &[SigningSecret]) -> Result<Verified, SignatureFault> {
        unverified.verify(secrets, self.ambient.now(), self.settings.tolerance)
    }

    fn forged(&self, fault: SignatureFault) -> Refusal {
        match fault {
            SignatureFault::NoMatch => Refusal::new(
                Code::InvalidSignature,
                format!(
                    "No signature matches: compare the signing secret on Loops' webhook page with {}.",
                    self.secrets.name_of(SecretField::SigningSecrets)
                ),
            ),
            SignatureFault::OutOfRange(age) => {
                let (seconds, side) = (age.unsigned_abs(), if age < 0 { "ahead" } else { "ago" });
                let message = format!(
                    "The webhook is signed {seconds} seconds {side}, which is too far off: check the relay's clock, or \
                     raise SIGNATURE_TOLERANCE_SECONDS."
                );
                Refusal::new(Code::TimestampOutOfRange, message)
            }
        }
    }

    fn unavailable(&self) -> Refusal {
        Refusal::new(Code::Unavailable, "The signing secrets cannot be read now: send the webhook again later.")
    }

    /// Does what is to be done with an event; `ids` gets the deliveries that it becomes.
    async fn take(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        ids: &mut Vec<DeliveryId>,
    ) -> Result<Taken, StoreFault> {
        if event.is_test() {
            return Ok(Taken::Test);
        }
        let wanted = self.settings.selection.selects(event.name());
        if !wanted || event.is_echo(self.settings.contact_source.as_deref()) {
            return Ok(Taken::Ignored);
        }
        if event.body().len() > CLAY_BYTES {
            return self.bury(event, ReasonCode::TooLarge, ids).await;
        }
        let taken = match self.put(event, secret, ids).await? {
            Some(taken) => Some(taken),
            // The route may have been made a moment ago.
            None => match self.secrets.reread().await {
                Ok(secret) => self.put(event, &secret, ids).await?,
                Err(_) => None,
            },
        };
        match taken {
            Some(taken) => Ok(taken),
            None => self.bury(event, ReasonCode::NoRoute, ids).await,
        }
    }

    /// Stores the event for every route that takes it; nothing where there is none.
    async fn put(
        &self,
        event: &LoopsEvent,
        secret: &LoopsToClaySecret,
        ids: &mut Vec<DeliveryId>,
    ) -> Result<Option<Taken>, StoreFault> {
        let mut taken = None;
        for route in secret.routes.iter().filter(|route| route.events.selects(event.name())) {
            let delivery = self.delivery(event, &route.name);
            ids.push(delivery.id.clone());
            let now = match self.queue.put_or_keep(&delivery).await? {
                Stored::New => Taken::Queued,
                Stored::Repeat => Taken::Repeat,
                Stored::Conflict => Taken::Rejected(ReasonCode::IdConflict),
            };
            taken = match taken {
                Some(known) if now == Taken::Repeat => Some(known),
                _ => Some(now),
            };
        }
        Ok(taken)
    }

    fn delivery(&self, event: &LoopsEvent, route: &str) -> Delivery {
        Delivery {
            id: DeliveryId::of_webhook(route, event.webhook_id()),
            contact: event.contact().clone(),
            received_at: self.ambient.now(),
            cargo: Cargo::ClayRow { route: route.to_owned(), webhook_id: event.webhook_id().to_owned() },
            body: event.body().clone(),
        }
    }

    async fn bury(&self, event: &LoopsEvent, code: ReasonCode, ids: &mut Vec<DeliveryId>) -> Result<Taken, StoreFault> {
        let delivery = self.delivery(event, "");
        ids.push(delivery.id.clone());
        self.queue.put_dead(&delivery, Reason::own(code)).await?;
        Ok(Taken::Rejected(code))
    }

    fn refuse(&self, refusal: &Refusal, begun: Instant) -> Response<Bytes> {
        let id = DeliveryId::of_refusal(&self.ambient.unique());
        let signal = Signal::new(Direction::LoopsToClay, Place::Door, Became::Refused, id.as_str());
        Signal { code: Some(refusal.code()), field: refusal.field(), took: begun.elapsed(), ..signal }.tell();
        response::with_delivery_id(response::refuse(Caller::Loops, refusal), id.as_str())
    }
}

fn answer(
    event: &LoopsEvent,
    taken: &Result<Taken, StoreFault>,
    ids: &[DeliveryId],
    begun: Instant,
) -> Response<Bytes> {
    let ids: Vec<&str> = ids.iter().map(DeliveryId::as_str).collect();
    let id = match ids.as_slice() {
        // Nothing was stored of it.
        [] => DeliveryId::of_webhook("", event.webhook_id()).as_str().to_owned(),
        ids => ids.join(", "),
    };
    let (became, reason, code) = match taken {
        Ok(Taken::Queued) => (Became::Queued, None, None),
        Ok(Taken::Repeat) => (Became::Duplicate, None, None),
        Ok(Taken::Ignored) => (Became::Ignored, None, None),
        Ok(Taken::Test) => (Became::Test, None, None),
        Ok(Taken::Rejected(code)) => (Became::Rejected, Some(Reason::own(*code)), None),
        Err(_) => (Became::Refused, None, Some(Code::Unavailable)),
    };
    let fault = taken.as_ref().err().map(ToString::to_string);
    Signal {
        webhook_id: Some(event.webhook_id()),
        event: Some(event.name()),
        contact: Some(event.contact()),
        code,
        reason,
        fault: fault.as_deref(),
        took: begun.elapsed(),
        ..Signal::new(Direction::LoopsToClay, Place::Door, became, &id)
    }
    .tell();
    let response = match taken {
        Ok(taken) => response::json(StatusCode::OK, &json!({"success": true, "status": taken.status()})),
        Err(_) => {
            let message = "The webhook cannot be stored now: send it again later.";
            response::refuse(Caller::Loops, &Refusal::new(Code::Unavailable, message))
        }
    };
    response::with_delivery_id(response, &id)
}
