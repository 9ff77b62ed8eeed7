//! A Loops team behind its API: routes, key and rate limit.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, get, on};
use axum::{Json, Router};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::behavior::{Behavior, BehaviorLayer};
use crate::loops::contact::Contact;
use crate::loops::error::LoopsError;
use crate::loops::operations::{self, LoopsResult};
use crate::loops::state::{Audience, ReceivedCall, ReceivedSend, Team};
use crate::loops::transactional::MAX_BODY_BYTES;
use crate::loops::validation::parse_contact;
use crate::rate_limit::FixedWindow;
use crate::{Rejections, Simulator, lock};

const ABOUT: &str = "A simulated Loops team. Its API is under /api/v1; GET /contacts, GET /events and GET /emails show what it holds.\n";

/// A simulated Loops team on a socket of its own. It stops when it is dropped.
#[derive(Debug)]
pub struct Loops {
    server: Simulator,
    account: Arc<Account>,
}

/// API key and limits of a simulated team.
#[derive(Debug, Clone)]
pub struct LoopsOptions {
    /// The only API key: `simulated`.
    pub api_key: SecretString,
    /// Calls a second of the whole team: 10 (Loops, API introduction: rate limiting). At least 1; `u32::MAX` is no limit.
    pub per_second: u32,
}

impl Loops {
    /// Serves a new, empty team on `listener`.
    ///
    /// # Errors
    /// If the socket has no address.
    pub async fn start(listener: TcpListener, options: LoopsOptions) -> std::io::Result<Self> {
        let account = Arc::new(Account {
            window: Mutex::new(FixedWindow::new(options.per_second)),
            options,
            team: Mutex::default(),
            rejections: Rejections::default(),
        });
        let behavior = watch::Sender::default();
        let server = Simulator::start(listener, routes(&account, &behavior), behavior)?;
        Ok(Self { server, account })
    }

    /// Replacement for `https://app.loops.so/api`.
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.server.address)
    }

    /// Address of the server.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How its API answers.
    pub fn behavior(&self) -> Behavior {
        self.server.behavior()
    }

    /// Changes how its API answers from now on, and returns how they did.
    pub fn set_behavior(&self, behavior: Behavior) -> Behavior {
        self.server.set_behavior(behavior)
    }

    /// Creates a contact as a person does in the audience, from a JSON object as the API takes it, and returns it as Loops shows
    /// it.
    ///
    /// # Errors
    /// What the API answers to such an object (Loops, API reference: create a contact).
    pub fn create_contact(&self, fields: &[u8]) -> Result<Value, LoopsError> {
        let fields = parse_contact(fields)?;
        let mut team = lock(&self.account.team);
        let id = team.create(fields)?;
        Ok(team.contacts.iter().find(|contact| contact.id == id).map(Contact::to_json).unwrap_or_default())
    }

    /// What came last, at most `max` of each kind.
    pub fn audience(&self, max: usize) -> Audience {
        lock(&self.account.team).audience(max)
    }

    /// All contacts, the oldest first, as Loops shows them (Loops, API reference: find a contact).
    pub fn contacts(&self) -> Vec<Value> {
        self.account.contacts()
    }

    /// All accepted events, in order.
    pub fn events(&self) -> Vec<ReceivedSend> {
        lock(&self.account.team).events.clone()
    }

    /// All transactional e-mails that were sent, in order.
    pub fn emails(&self) -> Vec<ReceivedSend> {
        lock(&self.account.team).emails.clone()
    }

    /// All calls that got a 2xx, in the order in which they took effect.
    pub fn calls(&self) -> Vec<ReceivedCall> {
        lock(&self.account.team).calls.clone()
    }

    /// The statuses of all rejected requests, in order.
    pub fn rejected_statuses(&self) -> Vec<u16> {
        self.account.rejections.statuses()
    }
}

impl Default for LoopsOptions {
    fn default() -> Self {
        Self { api_key: "simulated".into(), per_second: 10 }
    }
}

#[derive(Debug)]
struct Account {
    options: LoopsOptions,
    window: Mutex<FixedWindow>,
    team: Mutex<Team>,
    rejections: Rejections,
}

impl Account {
    fn contacts(&self) -> Vec<Value> {
        lock(&self.team).contacts.iter().map(Contact::to_json).collect()
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let expected = self.options.api_key.expose_secret();
        value.split_once(' ').is_some_and(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer") && key == expected)
    }
}

impl<S: Send + Sync> FromRequest<S> for ReceivedCall {
    type Rejection = BytesRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let path = request.uri().path().to_owned();
        let key =
            request.headers().get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        let body = Bytes::from_request(request, state).await?;
        Ok(Self { path, body, idempotency_key: key.filter(|key| !key.is_empty()) })
    }
}

fn routes(account: &Arc<Account>, behavior: &watch::Sender<Behavior>) -> Router {
    let limit = account.options.per_second.max(1);
    let behavior = BehaviorLayer::new(behavior, move |status| match status {
        StatusCode::TOO_MANY_REQUESTS => rate_limited(limit),
        // What a 5xx has is not stated.
        _ => LoopsError::new(status, "Something went wrong").into_response(),
    });
    let properties = operation(MethodFilter::GET, operations::properties)
        .merge(operation(MethodFilter::POST, operations::create_property));
    let suppression = operation(MethodFilter::GET, operations::suppression)
        .merge(operation(MethodFilter::DELETE, operations::remove_suppression));
    let transactional = operation(MethodFilter::GET, operations::transactional)
        .merge(operation(MethodFilter::POST, operations::send_email))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let api = Router::new()
        .route("/api/v1/contacts/update", operation(MethodFilter::PUT, operations::update))
        .route("/api/v1/contacts/create", operation(MethodFilter::POST, operations::create))
        .route("/api/v1/contacts/find", operation(MethodFilter::GET, operations::find))
        .route("/api/v1/contacts/delete", operation(MethodFilter::POST, operations::delete))
        .route("/api/v1/contacts/suppression", suppression)
        .route("/api/v1/contacts/properties", properties)
        .route("/api/v1/events/send", operation(MethodFilter::POST, operations::send_event))
        .route("/api/v1/transactional", transactional)
        .route("/api/v1/api-key", operation(MethodFilter::GET, operations::api_key))
        .route("/api/v1/lists", operation(MethodFilter::GET, operations::lists))
        .route("/api/{*rest}", any(|| async { LoopsError::new(StatusCode::NOT_FOUND, "Not found") }))
        .layer(from_fn_with_state(Arc::clone(account), authorize_and_limit))
        .layer(from_fn_with_state(behavior, BehaviorLayer::apply))
        .layer(from_fn_with_state(account.rejections.clone(), Rejections::record));
    Router::new()
        .route("/", get(|| async { ABOUT }))
        .route("/contacts", get(|State(account): State<Arc<Account>>| async move { Json(account.contacts()) }))
        .route("/events", get(|account| show(account, |team| &team.events)))
        .route("/emails", get(|account| show(account, |team| &team.emails)))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .merge(api)
        .with_state(Arc::clone(account))
}

/// A route that runs `run` and records its call as one step, so that both happen in the same order.
fn operation(
    method: MethodFilter,
    run: fn(&mut Team, &ReceivedCall, &Uri) -> LoopsResult,
) -> MethodRouter<Arc<Account>> {
    on(method, async move |State(account): State<Arc<Account>>, uri: Uri, call: ReceivedCall| {
        let mut team = lock(&account.team);
        let body = run(&mut team, &call, &uri)?;
        team.calls.push(call);
        Ok::<_, LoopsError>(Json(body))
    })
}

/// Middleware that checks the key, then the rate. Every response but the 401 has the remaining calls of the second (Loops, API
/// introduction: rate limiting); a call without a valid key is not counted.
async fn authorize_and_limit(State(account): State<Arc<Account>>, request: Request, next: Next) -> Response {
    if !account.is_authorized(request.headers()) {
        return LoopsError::invalid_api_key().into_response();
    }
    let (limit, remaining) = {
        let mut window = lock(&account.window);
        (window.limit, window.try_acquire(Instant::now()))
    };
    match remaining {
        Some(remaining) => with_quota(next.run(request).await, limit, remaining),
        None => rate_limited(limit),
    }
}

/// Body and `Retry-After` of a 429 are not stated.
fn rate_limited(limit: u32) -> Response {
    with_quota(LoopsError::new(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded").into_response(), limit, 0)
}

fn with_quota(mut response: Response, limit: u32, remaining: u32) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(remaining));
    response
}

/// Shows events or e-mails.
async fn show(State(account): State<Arc<Account>>, received: fn(&Team) -> &[ReceivedSend]) -> Json<Vec<ReceivedSend>> {
    Json(received(&lock(&account.team)).to_vec())
}
