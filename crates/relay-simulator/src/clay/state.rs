//! The rows of a simulated Clay workspace, and the checks before a row is accepted.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use governor::DefaultDirectRateLimiter;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::rate_limit::token_bucket;
use crate::{Rejections, lock};

/// Limits of a simulated workspace. The defaults are Clay's.
#[derive(Debug, Clone)]
pub struct ClayOptions {
    /// Token that every webhook requires; none by default (Clay, webhook guide: authentication is optional).
    pub auth_token: Option<SecretString>,
    /// Rows a second of all webhooks together: 10 (Clay, webhook guide: limits). At least 1; `u32::MAX` is no limit.
    pub per_second: u32,
    /// Rows at once after a pause: 20 (Clay, webhook guide: limits). At least 1.
    pub burst: u32,
    /// Rows that one webhook accepts in all: 50,000 (Clay, webhook guide: limits).
    pub cap: u64,
    /// Maximum bytes of a row: 100 KB (Clay, webhook guide: limits), taken as 100,000.
    pub limit_bytes: usize,
}

/// An accepted row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClayRow {
    /// Name of the webhook, the last part of its URL.
    pub webhook: String,
    /// Time of its acceptance.
    pub received_at: Timestamp,
    /// The body, byte for byte. It is JSON.
    #[serde(serialize_with = "serialize_json")]
    pub body: Bytes,
}

impl Default for ClayOptions {
    fn default() -> Self {
        Self { auth_token: None, per_second: 10, burst: 20, cap: 50_000, limit_bytes: 100_000 }
    }
}

/// Header with a webhook's token (Clay, webhook guide: authentication).
const AUTH_HEADER: &str = "x-clay-webhook-auth";

/// All webhooks of one workspace and their shared limit.
#[derive(Debug)]
pub(crate) struct Workspace {
    options: ClayOptions,
    bucket: DefaultDirectRateLimiter,
    table: Mutex<Table>,
    /// Number of accepted rows, for requests that wait for rows.
    row_count: watch::Sender<usize>,
    pub(crate) rejections: Rejections,
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<ClayRow>,
    rows_accepted: HashMap<String, u64>,
}

/// Status and message of the response to a rejected row (Clay, webhook guide: responses).
pub(crate) struct ClayError(pub(crate) StatusCode, pub(crate) &'static str);

impl Workspace {
    pub(crate) fn new(options: ClayOptions) -> Self {
        Self {
            bucket: token_bucket(options.per_second, options.burst),
            options,
            table: Mutex::default(),
            row_count: watch::Sender::new(0),
            rejections: Rejections::default(),
        }
    }

    pub(crate) fn rows(&self) -> Vec<ClayRow> {
        lock(&self.table).rows.clone()
    }

    pub(crate) fn latest_rows(&self, max: usize) -> (Vec<ClayRow>, usize) {
        let table = lock(&self.table);
        let latest = table.rows.iter().skip(table.rows.len().saturating_sub(max));
        (latest.cloned().collect(), table.rows.len())
    }

    pub(crate) async fn wait_for_rows(&self, min_rows: usize) {
        let mut row_count = self.row_count.subscribe();
        // It cannot fail: the sender lives as long as the workspace.
        let _ = row_count.wait_for(|count| *count >= min_rows).await;
    }

    /// Checks and stores a row. The order of the checks is not stated.
    pub(crate) fn accept(&self, webhook: String, headers: &HeaderMap, body: Bytes) -> Result<(), ClayError> {
        let token = headers.get(AUTH_HEADER).map(HeaderValue::as_bytes);
        let expected_token = self.options.auth_token.as_ref().map(|token| token.expose_secret().as_bytes());
        if expected_token.is_some() && token != expected_token {
            return Err(ClayError(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        if self.bucket.check().is_err() {
            return Err(ClayError::of_status(StatusCode::TOO_MANY_REQUESTS));
        }
        if !is_json(headers) {
            return Err(ClayError(StatusCode::BAD_REQUEST, "Content-Type must be application/json"));
        }
        if body.len() > self.options.limit_bytes {
            return Err(ClayError(StatusCode::BAD_REQUEST, "Payload is larger than 100 KB"));
        }
        if parse_raw_json(&body).is_none() {
            return Err(ClayError(StatusCode::BAD_REQUEST, "Body is not valid JSON"));
        }
        let mut table = lock(&self.table);
        // Only accepted rows count (Clay, webhook guide: limits).
        let accepted = table.rows_accepted.entry(webhook.clone()).or_default();
        if *accepted >= self.options.cap {
            return Err(ClayError(StatusCode::FORBIDDEN, "Record limit reached for webhook"));
        }
        *accepted = accepted.saturating_add(1);
        // One row per POST, whatever its JSON: a list is not split (Clay, webhook guide: body).
        table.rows.push(ClayRow { webhook, received_at: Timestamp::now(), body });
        self.row_count.send_replace(table.rows.len());
        Ok(())
    }
}

impl ClayError {
    /// The response that does not depend on the row. What a 5xx has is not stated.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        Self(
            status,
            match status {
                StatusCode::TOO_MANY_REQUESTS => "Too many requests. Wait a bit and retry.",
                _ => "Something went wrong",
            },
        )
    }
}

impl IntoResponse for ClayError {
    fn into_response(self) -> Response {
        // Only the 429's body and the 403's message are stated; the other bodies have the same form.
        let Self(status, message) = self;
        let kind = status.canonical_reason().unwrap_or_default().replace(' ', "");
        let body = Json(json!({"type": kind, "message": message, "details": null}));
        let retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some([(RETRY_AFTER, "1")]);
        (status, retry_after, body).into_response()
    }
}

/// Returns a body as JSON text, if it is JSON.
pub(crate) fn parse_raw_json(body: &[u8]) -> Option<&RawValue> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

fn serialize_json<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    parse_raw_json(body).serialize(serializer)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
