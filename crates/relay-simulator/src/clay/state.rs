//! What a simulated Clay workspace holds, and what it takes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::rate_limit::TokenBucket;
use crate::{Rejections, lock};

/// What a simulated workspace allows. The defaults are Clay's own figures.
#[derive(Clone)]
pub struct ClayOptions {
    /// The token that every webhook asks for in `x-clay-webhook-auth`; none by default (Clay, webhook guide:
    /// authentication is optional).
    pub auth_token: Option<String>,
    /// Rows a second, shared by all webhooks of the workspace: 10 (Clay, webhook guide: limits). At least 1;
    /// `u32::MAX` is no limit.
    pub per_second: u32,
    /// Rows at once after a pause: 20 (Clay, webhook guide: limits). At least 1.
    pub burst: u32,
    /// Rows that one webhook accepts in its life: 50,000 (Clay, webhook guide: limits).
    pub cap: u64,
    /// The largest row in bytes: 100 KB (Clay, webhook guide: limits), read as 100,000.
    pub limit_bytes: usize,
}

/// A row that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClayRow {
    /// The name of the webhook, the last part of its URL.
    pub webhook: String,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When it was accepted.
    pub received_at: Timestamp,
}

impl Default for ClayOptions {
    fn default() -> Self {
        Self { auth_token: None, per_second: 10, burst: 20, cap: 50_000, limit_bytes: 100_000 }
    }
}

impl fmt::Debug for ClayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClayOptions")
            .field("auth_token", &self.auth_token.as_ref().map(|_| "[redacted]"))
            .field("per_second", &self.per_second)
            .field("burst", &self.burst)
            .field("cap", &self.cap)
            .field("limit_bytes", &self.limit_bytes)
            .finish()
    }
}

/// The header that carries a webhook's token (Clay, webhook guide: authentication).
const AUTH_HEADER: &str = "x-clay-webhook-auth";

/// All webhooks of one workspace and their shared limit.
pub(crate) struct Workspace {
    options: ClayOptions,
    bucket: TokenBucket,
    table: Mutex<Table>,
    /// How many rows there are, for those who wait for some.
    row_count: watch::Sender<usize>,
    pub(crate) rejections: Rejections,
}

#[derive(Default)]
struct Table {
    rows: Vec<ClayRow>,
    rows_accepted: HashMap<String, u64>,
}

/// Why a row was not taken (Clay, webhook guide: responses).
pub(crate) enum ClayError {
    Unauthorized,
    RateLimited,
    InvalidRow(&'static str),
    RowLimitReached,
}

impl Workspace {
    pub(crate) fn new(options: ClayOptions) -> Self {
        Self {
            bucket: TokenBucket::new(options.per_second, options.burst),
            options,
            table: Mutex::default(),
            row_count: watch::Sender::new(0),
            rejections: Rejections::default(),
        }
    }

    /// Every accepted row, in the order of arrival.
    pub(crate) fn rows(&self) -> Vec<ClayRow> {
        lock(&self.table).rows.clone()
    }

    /// Waits until there are so many rows.
    pub(crate) async fn wait_for_rows(&self, min_rows: usize) {
        let mut row_count = self.row_count.subscribe();
        // The sender lives as long as the workspace: this ends with the rows or not at all.
        let _ = row_count.wait_for(|count| *count >= min_rows).await;
    }

    /// Takes a row or says why not. The order of the checks is not stated.
    pub(crate) fn accept(&self, webhook: String, headers: &HeaderMap, body: Bytes) -> Result<(), ClayError> {
        let token = headers.get(AUTH_HEADER).map(HeaderValue::as_bytes);
        if self.options.auth_token.as_ref().is_some_and(|expected| token != Some(expected.as_bytes())) {
            return Err(ClayError::Unauthorized);
        }
        if !self.bucket.try_acquire() {
            return Err(ClayError::RateLimited);
        }
        if !is_json(headers) {
            return Err(ClayError::InvalidRow("Content-Type must be application/json"));
        }
        if body.len() > self.options.limit_bytes {
            return Err(ClayError::InvalidRow("Payload is larger than 100 KB"));
        }
        if parse_raw_json(&body).is_none() {
            return Err(ClayError::InvalidRow("Body is not valid JSON"));
        }
        let mut table = lock(&self.table);
        // Only what was accepted counts (Clay, webhook guide: limits).
        let accepted = table.rows_accepted.entry(webhook.clone()).or_default();
        if *accepted >= self.options.cap {
            return Err(ClayError::RowLimitReached);
        }
        *accepted = accepted.saturating_add(1);
        // One row per POST, whatever the shape: a list is not split (Clay, webhook guide: body).
        table.rows.push(ClayRow { webhook, body, received_at: Timestamp::now() });
        self.row_count.send_replace(table.rows.len());
        Ok(())
    }
}

impl IntoResponse for ClayError {
    fn into_response(self) -> Response {
        // Only the 429's body and the 403's words are stated; the others are dressed alike.
        let (status, kind, message) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"),
            Self::RateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "Too many requests. Wait a bit and retry.")
            }
            Self::InvalidRow(message) => (StatusCode::BAD_REQUEST, "BadRequest", message),
            Self::RowLimitReached => (StatusCode::FORBIDDEN, "Forbidden", "Record limit reached for webhook"),
        };
        let body = Json(json!({"type": kind, "message": message, "details": null}));
        if status == StatusCode::TOO_MANY_REQUESTS {
            (status, [(RETRY_AFTER, "1")], body).into_response()
        } else {
            (status, body).into_response()
        }
    }
}

/// A body as JSON text, if it is any.
pub(crate) fn parse_raw_json(body: &[u8]) -> Option<&RawValue> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
