//! The one place that builds the HTTP client, and the one way in which it is used.
//!
//! - The roots are bundled: no directory of certificates is read at the start.
//! - Redirects are never followed: a body or a key must not go where nobody sent it.
//! - Idle connections are dropped after 25 s, below what any known peer keeps, so that a process that was frozen does
//!   not wake up with a pool of dead ones; one that died all the same is replaced at once, and only then.
//! - Of an answer at most 64 KiB are read. A status that came is an answer, whatever happened to the body.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use relay_core::backoff;
use relay_core::decision::Outcome;

use crate::room::Room;

/// How many calls a second Loops takes, and how many of them are left (Loops API reference, "Rate limiting").
const LIMIT: &str = "x-ratelimit-limit";
const REMAINING: &str = "x-ratelimit-remaining";
/// The longest time that opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(25);
/// The most that is read of an answer's body.
const ANSWER_BYTES: usize = 64 * 1024;

/// A client could not be built: a fault of the program, not of its settings.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built: {0}")]
pub struct BuildFault(String);

/// The client for every far end.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    /// Keeps no connections: what it sends goes out on a new one.
    fresh: reqwest::Client,
}

/// What a far end answered.
#[derive(Debug, Clone)]
pub struct FarAnswer {
    /// The status, or why there is none.
    pub outcome: Outcome,
    /// How long the far end asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What it says of the room that it has left.
    pub room: Option<Room>,
    /// What was read of the body.
    pub body: Bytes,
}

impl FarAnswer {
    /// An outcome that brought nothing else.
    #[must_use]
    pub const fn bare(outcome: Outcome) -> Self {
        Self { outcome, retry_after: None, room: None, body: Bytes::new() }
    }
}

/// Builds the client.
///
/// # Errors
/// When the TLS configuration is not possible.
#[expect(clippy::disallowed_methods, reason = "this is the one place that builds it")]
pub fn build() -> Result<HttpClient, BuildFault> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|fault| BuildFault(fault.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = |kept: usize| {
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .user_agent(concat!("loops-clay-relay/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // The far ends are named by the settings alone, not by a variable that some other program needs.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(kept)
            .connector_layer(NoteConnections)
            .build()
            .map_err(|fault| BuildFault(fault.to_string()))
    };
    Ok(HttpClient { client: client(usize::MAX)?, fresh: client(0)? })
}

impl HttpClient {
    /// A request to fill in and [send](Self::send).
    pub fn request(&self, method: http::Method, url: &str) -> reqwest::RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request, and again at once where it went into a pooled connection that had died.
    pub async fn send(&self, request: reqwest::RequestBuilder, timeout: Duration, now: Timestamp) -> FarAnswer {
        let request = request.timeout(timeout);
        let spare = request.try_clone();
        let opened = Arc::new(AtomicBool::new(false));
        let first = OPENED.scope(Arc::clone(&opened), request.send()).await;
        let pooled = !opened.load(Ordering::Relaxed);
        let result = match (first, spare) {
            (Err(fault), Some(spare)) if pooled && fault.is_request() && !fault.is_timeout() && !fault.is_connect() => {
                match spare.build() {
                    Ok(spare) => self.fresh.execute(spare).await,
                    Err(fault) => Err(fault),
                }
            }
            (first, _) => first,
        };
        match result {
            Ok(response) => read(response, now).await,
            Err(fault) => FarAnswer::bare(outcome_of(&fault)),
        }
    }
}

async fn read(mut response: reqwest::Response, now: Timestamp) -> FarAnswer {
    let outcome = Outcome::Answered(response.status().as_u16());
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| backoff::retry_after(value, now));
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse().ok();
    let room = number(LIMIT).zip(number(REMAINING)).map(|(limit, remaining)| Room { limit, remaining });
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            // Half a body: the status stands, and the words are not depended on.
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(ANSWER_BYTES);
    FarAnswer { outcome, retry_after, room, body: body.into() }
}

fn outcome_of(fault: &reqwest::Error) -> Outcome {
    let mut source = fault.source();
    while let Some(cause) = source {
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return Outcome::CertificateUntrusted;
        }
        source = cause.source();
    }
    if fault.is_timeout() { Outcome::TimedOut } else { Outcome::Unreachable }
}

tokio::task_local! {
    /// Whether the request that this task is sending asked for a new connection.
    static OPENED: Arc<AtomicBool>;
}

/// Notes which requests open a connection, to tell one on a pooled connection from one on a new one.
#[derive(Debug, Clone, Default)]
struct NoteConnections;

impl<S> tower_layer::Layer<S> for NoteConnections {
    type Service = Noted<S>;

    fn layer(&self, connector: S) -> Noted<S> {
        Noted { connector }
    }
}

/// A connector whose use is noted.
#[derive(Debug, Clone)]
struct Noted<S> {
    connector: S,
}

impl<S: tower_service::Service<T>, T> tower_service::Service<T> for Noted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, target: T) -> S::Future {
        // Where there is no such task, nobody asks.
        let _ = OPENED.try_with(|opened| opened.store(true, Ordering::Relaxed));
        self.connector.call(target)
    }
}
