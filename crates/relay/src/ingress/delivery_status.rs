//! `GET /api/v1/deliveries/{deliveryId}`: what became of a row that was answered with 202.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use relay_core::delivery::{DeliveryId, ReasonCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::token::Scope;
use serde_json::json;
use tracing::error;

use crate::ingress::authentication::authenticate;
use crate::ingress::read_request::ReadRequest;
use crate::ingress::response;
use crate::ports::clock::SharedClock;
use crate::ports::delivery_status::{DeliveryStatus, DeliveryStatusSource, Progress};
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};

/// Maximum length of an id.
const MAX_ID_LEN: usize = 80;

/// The handler of the route.
#[derive(Debug, Clone)]
pub struct DeliveryStatusHandler<S, D> {
    /// The relay tokens.
    pub secrets: S,
    /// Where deliveries are recorded.
    pub deliveries: D,
    /// Ids.
    pub clock: SharedClock,
}

impl<S: SecretSource<ClayToLoopsSecret>, D: DeliveryStatusSource> DeliveryStatusHandler<S, D> {
    /// Answers one request for the delivery with this id.
    pub async fn handle(&self, id: &str, headers: &HeaderMap) -> Response<Bytes> {
        let mut request = ReadRequest::begin("status", &self.clock);
        let result = self.answer(id, headers, &mut request).await;
        request.finish(result)
    }

    async fn answer(
        &self,
        id: &str,
        headers: &HeaderMap,
        request: &mut ReadRequest,
    ) -> Result<Response<Bytes>, RequestError> {
        request.token_name = authenticate(&self.secrets, headers, Scope::DeliveriesRead).await?.token_name;
        Ok(status_response(id, &self.find(id).await?))
    }

    async fn find(&self, id: &str) -> Result<DeliveryStatus, RequestError> {
        let is_id = id.len() <= MAX_ID_LEN && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let found = if is_id {
            self.deliveries.delivery_status(&DeliveryId::from_stored(id.to_owned())).await
        } else {
            Ok(None)
        };
        let found = found.map_err(|error| {
            error!(%error, "the status of a delivery cannot be read");
            RequestError::new(
                ErrorCode::Unavailable,
                "The relay's store cannot be read now: run the column again later.",
            )
        })?;
        found.ok_or_else(|| {
            let message = "There is no record of this id: it is misspelt, older than 30 days, or of a row that was answered \
                           directly, whose own cell says what became of it. Insert the deliveryId of a 202.";
            RequestError::new(ErrorCode::NotFound, message)
        })
    }
}

fn status_response(id: &str, status: &DeliveryStatus) -> Response<Bytes> {
    let progress: &'static str = status.progress.into();
    let mut body = json!({
        "deliveryId": id,
        "status": progress,
        "since": status.since.to_string(),
        "attempts": status.attempts,
    });
    if let Some(fields) = body.as_object_mut() {
        if let Some(reason) = status.reason {
            fields.insert("reason".to_owned(), reason.code.as_str().into());
        }
        fields.insert("message".to_owned(), sentence(status).into());
    }
    response::json(StatusCode::OK, &body)
}

/// What happened, and what to do.
fn sentence(status: &DeliveryStatus) -> String {
    let code = status.reason.map(|reason| reason.code);
    match (status.progress, code, &status.message) {
        (Progress::Queued, ..) => "It waits for its turn and is sent by itself: look again in a minute.".to_owned(),
        (Progress::Held, ..) => {
            "It waits until the cause is fixed, and is then sent by itself: tell the relay's operator, who \
                                 sees it in relayctl doctor."
                .to_owned()
        }
        (Progress::Delivered, ..) => "It has arrived: nothing is to be done.".to_owned(),
        (Progress::Duplicate, ..) => "It had arrived before, and was not done twice: nothing is to be done.".to_owned(),
        (Progress::Dead, _, Some(message)) => {
            format!("Loops refuses it and says: {} Correct the row and run it again.", as_sentence(message))
        }
        (Progress::Dead, Some(ReasonCode::IdConflict), _) => "Another event or e-mail has its key, so it was not sent: give it a \
                                                              key of its own, or leave the header out, and run the row again."
            .to_owned(),
        (Progress::Dead, Some(ReasonCode::LoopsRejected), _) => "Loops refuses it and gives no reason: compare the row with Loops' \
                                                                 API reference, correct it, and run it again."
            .to_owned(),
        (Progress::Dead, Some(ReasonCode::OutcomeUnknown), _) => {
            "It is not known whether Loops has it, so it is not sent again \
                                                                  by itself: the relay's operator decides about it."
                .to_owned()
        }
        (Progress::Dead, ..) => {
            "It was given up, and is not sent by itself: run the row again, or ask the relay's operator to \
                                 send it again (relayctl dead-letters)."
                .to_owned()
        }
    }
}

fn as_sentence(message: &str) -> String {
    let message = message.trim();
    if message.ends_with(['.', '!', '?', '…']) { message.to_owned() } else { format!("{message}.") }
}
