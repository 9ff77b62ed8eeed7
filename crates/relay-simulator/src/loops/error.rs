//! Loops' error responses.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// An error response in Loops' form: `{"success":false,"message":"…"}`, without an error code (Loops, API introduction:
/// errors).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopsError {
    status: StatusCode,
    message: Cow<'static, str>,
    /// What else the body has.
    details: Map<String, Value>,
}

impl LoopsError {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), details: Map::new() }
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 (Loops, API reference: delete a contact, get suppression status for a contact).
    pub(crate) fn contact_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Contact not found.")
    }

    /// 409, for a contact that exists (Loops, API reference: create a contact) and for a used idempotency key (Loops, API
    /// reference: send an event).
    pub(crate) fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// Returns the error with one more field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.details.insert(field.to_owned(), value.into());
        self
    }

    /// Returns the error with its message once more, in an `error` that names the field of the request (Loops, API
    /// reference: send a transactional email).
    pub(crate) fn at(self, path: &str) -> Self {
        let error = json!({"path": path, "message": self.message});
        self.with("error", error)
    }

    /// 401, with the older `error` beside the `message` (Loops, API reference: API key).
    pub(crate) fn invalid_api_key() -> Self {
        let message = "Invalid API key";
        Self::new(StatusCode::UNAUTHORIZED, message).with("error", message)
    }
}

impl fmt::Display for LoopsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for LoopsError {}

impl IntoResponse for LoopsError {
    fn into_response(self) -> Response {
        let mut body = Map::from_iter([
            ("success".to_owned(), Value::Bool(false)),
            ("message".to_owned(), Value::from(self.message.into_owned())),
        ]);
        body.extend(self.details);
        (self.status, Json(body)).into_response()
    }
}
