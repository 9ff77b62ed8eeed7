//! Loops' error responses.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error response in Loops' form: `{"success":false,"message":"…"}`, without an error code (Loops, API introduction:
/// errors).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoopsError {
    status: StatusCode,
    message: Cow<'static, str>,
}

impl LoopsError {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 409, for a contact that exists (Loops, API reference: create a contact) and for a used idempotency key (Loops, API
    /// reference: send an event).
    pub(crate) fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 401, with the older `error` beside the `message` (Loops, API reference: API key).
    pub(crate) fn invalid_api_key() -> Response {
        let message = "Invalid API key";
        let body = json!({"success": false, "message": message, "error": message});
        (StatusCode::UNAUTHORIZED, Json(body)).into_response()
    }
}

impl IntoResponse for LoopsError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"success": false, "message": self.message}))).into_response()
    }
}
