//! The outcome of a row's request, and its response and event.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use relay_core::contact::ContactKey;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::idempotency::{self, IdempotencyKey};
use relay_core::row::RowKind;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::ingress::response::{self, Caller};
use crate::ports::row_intake::SyncSendResult;
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome, Stage};

/// What the response and the event of a row say besides its outcome.
#[derive(Debug)]
pub(crate) struct RowContext {
    /// The id of its delivery, or the one under which its rejection is logged.
    pub(crate) id: DeliveryId,
    pub(crate) contact: Option<ContactKey>,
    /// The fields that were left out or cut.
    pub(crate) adjusted: Vec<String>,
    /// Whether the caller preferred to have it stored.
    pub(crate) prefers_async: bool,
    /// Whether the caller asks what would be sent.
    pub(crate) dry_run: bool,
}

/// Outcome of a row's request.
#[derive(Debug)]
pub(crate) enum RowOutcome {
    /// Loops has accepted it, with this 2xx response.
    Delivered { status: StatusCode, body: Bytes },
    /// Loops had accepted it before.
    Duplicate,
    /// It is in the queue.
    Queued,
    /// What would be sent, with which key, and whether it was sent or waits already.
    DryRun { body: Bytes, key: Option<IdempotencyKey>, duplicate: bool },
    /// Loops or the relay rejects it.
    Rejected {
        error: RequestError,
        /// The status for the caller, if it is not that of the error's code.
        status: Option<StatusCode>,
        /// What Loops has answered. Its clients read more of it than the message.
        loops_answer: Map<String, Value>,
    },
}

/// The answer to a dry run. Clay's formulas read only its beginning, so what is short comes first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DryRunAnswer<'a> {
    success: bool,
    status: &'static str,
    duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    /// Byte for byte what Loops would get.
    would_send: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjusted: Option<Value>,
}

impl From<RequestError> for RowOutcome {
    fn from(error: RequestError) -> Self {
        Self::Rejected { error, status: None, loops_answer: Map::new() }
    }
}

impl RowOutcome {
    /// A row that can be neither sent nor stored now.
    pub(crate) fn unavailable(problem: &str) -> Self {
        RequestError::new(ErrorCode::Unavailable, format!("{problem}: run the row again in a moment.")).into()
    }

    /// An event under a key that another contact's event has.
    pub(crate) fn key_of_other_contact() -> Self {
        let message = "This Idempotency-Key was used for another contact, so the event was not sent: insert a column \
                       that differs for each row into the header, then run the row again.";
        RequestError::new(ErrorCode::InvalidOption, message).with_field(idempotency::HEADER).into()
    }

    /// An event that Loops may have, and could not tell from a new one.
    pub(crate) fn outcome_unknown() -> Self {
        let message = "It is not known whether Loops has this event, so it is not sent again: the relay's operator \
                       decides about it (relayctl dead-letters), or give it another Idempotency-Key to send it anyway.";
        RequestError::new(ErrorCode::OutcomeUnknown, message).into()
    }

    /// The result as the store has to record it.
    pub(crate) const fn sync_send_result(&self, stats: &CallStats) -> SyncSendResult {
        match self {
            Self::Delivered { .. } | Self::Duplicate => SyncSendResult::Delivered,
            Self::Queued | Self::DryRun { .. } | Self::Rejected { .. } if stats.outcome_unknown => {
                SyncSendResult::OutcomeUnknown
            }
            Self::Queued | Self::DryRun { .. } | Self::Rejected { .. } => SyncSendResult::Rejected,
        }
    }

    pub(crate) fn into_response(self, context: &RowContext) -> Response<Bytes> {
        let queued = matches!(self, Self::Queued);
        let mut response = self.base_response(context);
        if queued && context.prefers_async {
            response.headers_mut().insert(response::PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        }
        if !queued && let Some(adjusted) = response::adjusted_header(&context.adjusted) {
            response.headers_mut().insert(response::ADJUSTED, adjusted);
        }
        response::with_delivery_id(response, context.id.as_str())
    }

    fn base_response(self, context: &RowContext) -> Response<Bytes> {
        match self {
            Self::Delivered { status, body } if response::is_json(&body) => response::json_bytes(status, body),
            Self::Delivered { .. } => response::json(StatusCode::OK, &json!({"success": true})),
            Self::Duplicate => response::json(StatusCode::OK, &json!({"success": true, "duplicate": true})),
            Self::Queued => {
                let mut body = json!({"success": true, "status": "queued", "deliveryId": context.id.as_str()});
                let adjusted = response::adjusted_list(&context.adjusted);
                if let (Some(adjusted), Some(object)) = (adjusted, body.as_object_mut()) {
                    object.insert("adjusted".to_owned(), adjusted);
                }
                response::json(StatusCode::ACCEPTED, &body)
            }
            Self::DryRun { body, key, duplicate } => {
                let answer = DryRunAnswer {
                    success: true,
                    status: "dry-run",
                    duplicate,
                    idempotency_key: key.as_ref().map(IdempotencyKey::as_str),
                    would_send: serde_json::from_slice(&body).ok(),
                    adjusted: response::adjusted_list(&context.adjusted),
                };
                // Keys are texts and the writer is memory, so this does not fail.
                response::json_bytes(StatusCode::OK, serde_json::to_vec(&answer).unwrap_or_default().into())
            }
            Self::Rejected { error, status, loops_answer } => {
                let mut response = response::error_response_with(Caller::Clay, &error, loops_answer);
                *response.status_mut() = status.unwrap_or(response.status());
                response
            }
        }
    }

    /// Emits the event of the request, which a caller has sent with the token of this name.
    pub(crate) fn log(
        &self,
        kind: RowKind,
        context: &RowContext,
        token_name: Option<&str>,
        duration: Duration,
        stats: CallStats,
    ) {
        let (outcome, error) = match self {
            Self::Delivered { .. } => (EventOutcome::Delivered, None),
            Self::Duplicate => (EventOutcome::Duplicate, None),
            Self::Queued => (EventOutcome::Queued, None),
            Self::DryRun { .. } => (EventOutcome::DryRun, None),
            Self::Rejected { error, .. } => (EventOutcome::Refused, Some(error)),
        };
        let event = DeliveryEvent::new(Direction::ClayToLoops, Stage::Request, outcome, context.id.as_str());
        DeliveryEvent {
            kind: Some(kind.as_str()),
            token: token_name,
            contact: context.contact.as_ref(),
            code: error.map(RequestError::code),
            error: error.and_then(RequestError::log_detail),
            attempts: stats.calls,
            duration,
            stats,
            ..event
        }
        .emit();
    }
}
