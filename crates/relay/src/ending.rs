//! How a row's request can end, and what the caller and the log are told.

use bytes::Bytes;
use http::{Response, StatusCode};
use relay_core::delivery::DeliveryId;
use relay_core::refusal::{Code, Refusal};
use relay_core::row::Kind;
use serde_json::json;
use tracing::{info, warn};

use crate::answer::{self, Caller};

/// Loops' own answer to a call that it took.
#[derive(Debug, Clone)]
pub(crate) struct LoopsAnswer {
    /// Its 2xx status.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: Bytes,
}

/// How a row's request ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Loops has it.
    Delivered(LoopsAnswer),
    /// Loops had it already.
    Duplicate,
    /// It is stored.
    Queued {
        /// Whether Loops was tried before.
        tried: bool,
    },
    /// Loops refuses it for good.
    LoopsRejected {
        /// The status for the caller.
        status: StatusCode,
        /// What Loops said, or a sentence in its place.
        message: String,
    },
    /// The relay refuses it.
    Refused(Refusal),
}

impl Ending {
    /// Nothing could be done now, and nothing is kept.
    pub(crate) fn unavailable(what: &str) -> Self {
        Self::Refused(Refusal::new(Code::Unavailable, format!("{what}: run the row again in a moment.")))
    }

    pub(crate) fn answer(self, id: Option<&DeliveryId>) -> Response<Bytes> {
        match self {
            Self::Delivered(LoopsAnswer { status, body }) => {
                if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
                    answer::raw(status, body)
                } else {
                    answer::json(StatusCode::OK, &json!({"success": true}))
                }
            }
            Self::Duplicate => answer::json(StatusCode::OK, &json!({"success": true, "duplicate": true})),
            Self::Queued { .. } => {
                let id = id.map(DeliveryId::as_str);
                answer::json(StatusCode::ACCEPTED, &json!({"success": true, "status": "queued", "deliveryId": id}))
            }
            Self::LoopsRejected { status, message } => {
                answer::refuse_with(status, Caller::Clay, &Refusal::new(Code::LoopsRejected, message))
            }
            Self::Refused(refusal) => answer::refuse(Caller::Clay, &refusal),
        }
    }

    pub(crate) fn log(&self, kind: Kind, id: Option<&DeliveryId>) {
        let row = match kind {
            Kind::Contact => "contact",
            Kind::Event => "event",
        };
        let id = id.map(DeliveryId::as_str);
        match self {
            Self::Delivered(_) => info!(delivery.id = id, row, outcome = "delivered", "row taken"),
            Self::Duplicate => info!(delivery.id = id, row, outcome = "duplicate", "row taken"),
            Self::Queued { tried } => info!(delivery.id = id, row, outcome = "queued", tried, "row taken"),
            Self::LoopsRejected { status, .. } => {
                let code = Code::LoopsRejected.as_str();
                warn!(delivery.id = id, row, code, status = status.as_u16(), "row refused by Loops");
            }
            Self::Refused(refusal) => warn!(delivery.id = id, row, code = refusal.code().as_str(), "row refused"),
        }
    }
}
