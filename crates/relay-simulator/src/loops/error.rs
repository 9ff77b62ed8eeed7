//! What Loops answers when it does not do what it was asked.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A status and a sentence, in the shape of all of Loops' refusals: `{"success":false,"message":"…"}`
/// (Loops, API introduction: errors). There is no machine-readable code in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoopsError {
    status: StatusCode,
    message: Cow<'static, str>,
}

impl LoopsError {
    /// 400.
    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// 409, for a contact that exists (Loops, API reference: create a contact) and for an idempotency key that was
    /// used (Loops, API reference: send an event).
    pub(crate) fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::CONFLICT, message: message.into() }
    }

    /// 404, for a path that is none of the API's.
    pub(crate) fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, message: "Not found".into() }
    }

    /// 429 (Loops, API introduction: rate limiting). Its body is not stated, a `Retry-After` not documented.
    pub(crate) fn too_many_requests() -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, message: "Rate limit exceeded".into() }
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
