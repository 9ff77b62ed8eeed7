//! How a row's request can end, and what the caller and the log are told.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use relay_core::contact::ContactKey;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::row::RowKind;
use serde_json::json;

use crate::ingress::response::{self, Caller};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome, Stage};

/// Loops' own answer to a call that it took.
#[derive(Debug, Clone)]
pub(crate) struct LoopsResponse {
    /// Its 2xx status.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: Bytes,
}

/// What is told of a row besides how it ended.
#[derive(Debug)]
pub(crate) struct RowContext {
    /// The id of its delivery, or one by which its refusal is found in the log.
    pub(crate) id: DeliveryId,
    /// Whom it is about.
    pub(crate) contact: Option<ContactKey>,
    /// The fields that were left out or cut.
    pub(crate) adjusted: Vec<String>,
    /// Whether the caller preferred to have it stored.
    pub(crate) later: bool,
}

impl RowContext {
    /// A request that became no delivery. `unique` comes from outside.
    pub(crate) fn for_rejected(unique: &str) -> Self {
        Self { id: DeliveryId::for_rejected_request(unique), contact: None, adjusted: Vec::new(), later: false }
    }
}

/// How a row's request ended.
#[derive(Debug)]
pub(crate) enum RowOutcome {
    /// Loops has it.
    Delivered(LoopsResponse),
    /// Loops had it already.
    Duplicate,
    /// It is stored.
    Queued,
    /// Loops refuses it for good.
    LoopsRejected {
        /// The status for the caller.
        status: StatusCode,
        /// What Loops said, or a sentence in its place.
        message: String,
    },
    /// The relay refuses it.
    Refused(RequestError),
}

impl RowOutcome {
    /// Nothing could be done now, and nothing is kept.
    pub(crate) fn unavailable(what: &str) -> Self {
        Self::Refused(RequestError::new(ErrorCode::Unavailable, format!("{what}: run the row again in a moment.")))
    }

    pub(crate) fn answer(self, about: &RowContext) -> Response<Bytes> {
        let queued = matches!(self, Self::Queued);
        let mut response = self.body(about);
        if queued && about.later {
            response.headers_mut().insert(response::PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        }
        if !queued && let Some(adjusted) = response::adjusted_header(&about.adjusted) {
            response.headers_mut().insert(response::ADJUSTED, adjusted);
        }
        response::with_delivery_id(response, about.id.as_str())
    }

    fn body(self, about: &RowContext) -> Response<Bytes> {
        match self {
            Self::Delivered(LoopsResponse { status, body }) => {
                if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
                    response::json_bytes(status, body)
                } else {
                    response::json(StatusCode::OK, &json!({"success": true}))
                }
            }
            Self::Duplicate => response::json(StatusCode::OK, &json!({"success": true, "duplicate": true})),
            Self::Queued => {
                let mut body = json!({"success": true, "status": "queued", "deliveryId": about.id.as_str()});
                if let (Some(adjusted), Some(object)) = (response::adjusted_list(&about.adjusted), body.as_object_mut())
                {
                    object.insert("adjusted".to_owned(), adjusted);
                }
                response::json(StatusCode::ACCEPTED, &body)
            }
            Self::LoopsRejected { status, message } => response::error_response_with_status(
                status,
                Caller::Clay,
                &RequestError::new(ErrorCode::LoopsRejected, message),
            ),
            Self::Refused(refusal) => response::error_response(Caller::Clay, &refusal),
        }
    }

    /// Tells it, with what was measured meanwhile.
    pub(crate) fn log(&self, kind: RowKind, about: &RowContext, took: Duration, tally: CallStats) {
        let (became, code) = match self {
            Self::Delivered(_) => (EventOutcome::Delivered, None),
            Self::Duplicate => (EventOutcome::Duplicate, None),
            Self::Queued => (EventOutcome::Queued, None),
            Self::LoopsRejected { .. } => (EventOutcome::Refused, Some(ErrorCode::LoopsRejected)),
            Self::Refused(refusal) => (EventOutcome::Refused, Some(refusal.code())),
        };
        let signal = DeliveryEvent::new(Direction::ClayToLoops, Stage::Request, became, about.id.as_str());
        let kind = match kind {
            RowKind::Contact => "contact",
            RowKind::Event => "event",
        };
        DeliveryEvent {
            kind: Some(kind),
            contact: about.contact.as_ref(),
            code,
            attempts: tally.calls,
            duration: took,
            tally,
            ..signal
        }
        .emit();
    }
}
