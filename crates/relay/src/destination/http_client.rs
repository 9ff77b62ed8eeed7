//! The one HTTP client.
//!
//! - The roots are bundled: no directory of certificates is read at the start.
//! - Redirects are never followed: a body or a key must go to the configured host only.
//! - Idle connections are closed after 25 s, before any known peer closes them, by the monotonic clock and by the time of day:
//!   a process that was frozen does not wake up with dead ones. If one has died all the same, the request is repeated on a new
//!   one, and all others are discarded.
//! - At most 64 KiB of a response are read. A response with a status counts, even if its body breaks off.
//!
//! See docs/adr/0008-http-client.md.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use relay_core::policy::response::CallOutcome;
use relay_core::policy::retry;
use reqwest::RequestBuilder;
use tokio::time::Instant;

use crate::destination::connection_pool::{ConnectionPool, OPENED_NEW, RequestGuard};
use crate::destination::deadline;
use crate::destination::rate_limit_headers::QuotaHeaders;

/// Quota of Loops per second, and what is left of it (Loops API reference, "Rate limiting").
const LIMIT_HEADER: &str = "x-ratelimit-limit";
const REMAINING_HEADER: &str = "x-ratelimit-remaining";
/// How long a destination is not called after a 429 without `Retry-After`.
const DEFAULT_THROTTLE: Duration = Duration::from_secs(1);
/// The most that is read of a response's body, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The client could not be built: an error of the program, not of its settings.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built: {0}")]
pub struct BuildError(#[source] Box<dyn Error + Send + Sync>);

/// HTTP client for all destinations.
#[derive(Debug, Clone)]
pub struct HttpClient {
    pool: Arc<ConnectionPool>,
}

/// Response of a destination.
#[derive(Debug, Clone)]
pub struct DestinationResponse {
    /// The status, or why none came.
    pub outcome: CallOutcome,
    /// How long the destination asks not to be called.
    pub retry_after: Option<Duration>,
    /// The quota that it reports.
    pub rate_limit: Option<QuotaHeaders>,
    /// The body, as far as it was read.
    pub body: Bytes,
    /// Whether the request used a pooled connection. Without a response, that says nothing about the destination: the
    /// connection may have died while the process was frozen.
    pub reused_connection: bool,
}

impl DestinationResponse {
    /// A response without body and headers.
    pub const fn without_response(outcome: CallOutcome) -> Self {
        Self { outcome, retry_after: None, rate_limit: None, body: Bytes::new(), reused_connection: false }
    }

    /// The HTTP status, if one came.
    pub(crate) const fn status(&self) -> Option<u16> {
        if let CallOutcome::Responded(status) = self.outcome { Some(status) } else { None }
    }

    /// How long not to call the destination after a 429: as long as it asks, or a second, because its limit is per second.
    pub(crate) fn throttle(&self) -> Option<Duration> {
        (self.status() == Some(429)).then(|| self.retry_after.unwrap_or(DEFAULT_THROTTLE))
    }

    /// Its outcome, if that shows whether the destination is up.
    pub(crate) fn health_signal(&self) -> Option<CallOutcome> {
        (!self.reused_connection || self.status().is_some()).then_some(self.outcome)
    }
}

/// Builds the client. Fails if the TLS configuration is not possible.
pub fn build() -> Result<HttpClient, BuildError> {
    build_with_roots(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
}

/// Builds a client that trusts these authorities in place of the bundled ones.
pub fn build_with_roots(roots: rustls::RootCertStore) -> Result<HttpClient, BuildError> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let pool = ConnectionPool::new(tls).map_err(|error| BuildError(error.into()))?;
    Ok(HttpClient { pool: Arc::new(pool) })
}

impl HttpClient {
    /// Begins a request for [`send`](Self::send) or [`execute`](Self::execute).
    pub fn request(&self, method: http::Method, url: &str) -> RequestBuilder {
        self.pool.current(SystemTime::now()).0.request(method, url)
    }

    /// Sends a request, and repeats it at once if it used a pooled connection that had died. Both together take no longer than
    /// `timeout`.
    pub async fn send(&self, request: RequestBuilder, timeout: Duration, now: Timestamp) -> DestinationResponse {
        let deadline = Instant::now() + timeout;
        let opened = Arc::default();
        let response = match deadline::timeout_at_with_grace(deadline, self.send_with_reconnect(request, &opened)).await
        {
            Some(Ok(response)) => read_response(response, now, deadline).await,
            Some(Err(error)) => DestinationResponse::without_response(error.outcome()),
            None => DestinationResponse::without_response(CallOutcome::TimedOut),
        };
        DestinationResponse { reused_connection: !opened.load(Ordering::Relaxed), ..response }
    }

    /// Sends a request like [`send`](Self::send), without a timeout. Fails if no response came.
    pub async fn execute(&self, request: RequestBuilder) -> reqwest::Result<reqwest::Response> {
        self.send_with_reconnect(request, &Arc::default()).await.map_err(|failed| failed.error)
    }

    async fn send_with_reconnect(
        &self,
        request: RequestBuilder,
        opened: &Arc<AtomicBool>,
    ) -> Result<reqwest::Response, FailedRequest> {
        let once = |error| FailedRequest { error, was_resent: false };
        let request = request.build().map_err(once)?;
        if let Some(client) = self.pool.unpooled_for_large_body(&request) {
            return OPENED_NEW.scope(Arc::clone(opened), client.execute(request)).await.map_err(once);
        }
        let retry = request.try_clone();
        let (client, generation) = self.pool.current(SystemTime::now());
        let guard = RequestGuard::start(&self.pool, generation, Arc::clone(opened));
        let error = match OPENED_NEW.scope(Arc::clone(opened), client.execute(request)).await {
            Ok(response) => {
                guard.responded();
                return Ok(response);
            }
            Err(error) => error,
        };
        let connection_died = guard.failed() && error.is_request() && !error.is_connect();
        match retry {
            Some(retry) if connection_died => {
                // The pool has no old connection left.
                opened.store(true, Ordering::Relaxed);
                let response = self.pool.current(SystemTime::now()).0.execute(retry).await;
                response.map_err(|error| FailedRequest { error, was_resent: true })
            }
            _ => Err(once(error)),
        }
    }
}

async fn read_response(mut response: reqwest::Response, now: Timestamp, deadline: Instant) -> DestinationResponse {
    let outcome = CallOutcome::Responded(response.status().as_u16());
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let number = |name| header(name)?.trim().parse().ok();
    let retry_after = header(RETRY_AFTER.as_str()).and_then(|value| retry::parse_retry_after(value, now));
    let quota = number(LIMIT_HEADER).zip(number(REMAINING_HEADER));
    let rate_limit = quota.map(|(limit, remaining)| QuotaHeaders { limit, remaining });
    let mut body = Vec::new();
    while body.len() < MAX_RESPONSE_BYTES {
        match deadline::timeout_at_with_grace(deadline, response.chunk()).await {
            Some(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            // Half a body: the status is valid all the same.
            Some(Ok(None) | Err(_)) | None => break,
        }
    }
    body.truncate(MAX_RESPONSE_BYTES);
    DestinationResponse { outcome, retry_after, rate_limit, body: body.into(), reused_connection: false }
}

/// A request without a response.
struct FailedRequest {
    error: reqwest::Error,
    /// Whether it was sent before, on a pooled connection that had died, and so may have arrived then.
    was_resent: bool,
}

impl FailedRequest {
    fn outcome(&self) -> CallOutcome {
        match outcome_of(&self.error) {
            CallOutcome::Unreachable if self.was_resent => CallOutcome::ConnectionLost,
            outcome => outcome,
        }
    }
}

fn outcome_of(error: &reqwest::Error) -> CallOutcome {
    let mut causes = std::iter::successors(error.source(), |cause| cause_of(*cause));
    if causes.any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))) {
        return CallOutcome::CertificateUntrusted;
    }
    if error.is_connect() || error.is_builder() {
        // Also one that took too long: nothing was sent.
        CallOutcome::Unreachable
    } else if error.is_timeout() {
        CallOutcome::TimedOut
    } else {
        CallOutcome::ConnectionLost
    }
}

/// Returns what an error wraps. `io::Error::source` passes over the error inside it, and the TLS layers wrap one
/// `io::Error` in another.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
