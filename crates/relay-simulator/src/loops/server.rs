//! A Loops team behind its API: routes, key and rate limit.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::loops::contact::Contact;
use crate::loops::error::LoopsError;
use crate::loops::state::{ReceivedCall, ReceivedEvent, Team};
use crate::loops::validation as rules;
use crate::rate_limit::FixedWindow;
use crate::{Rejections, Simulator, lock};

const ABOUT: &str =
    "A simulated Loops team. Its API is under /api/v1; GET /contacts and GET /events show what it holds.\n";

/// A simulated Loops team on a socket of its own. It stops when it is dropped.
pub struct Loops {
    server: Simulator,
    account: Arc<Account>,
}

/// What a simulated team asks for and allows.
#[derive(Clone)]
pub struct LoopsOptions {
    /// The only API key: `simulated`.
    pub api_key: String,
    /// Calls a second, shared by the whole team: 10 (Loops, API introduction: rate limiting). At least 1;
    /// `u32::MAX` is no limit.
    pub per_second: u32,
}

impl Loops {
    /// Serves a new, empty team on `listener`.
    ///
    /// # Errors
    ///
    /// If the socket has no address.
    pub async fn start(listener: TcpListener, options: LoopsOptions) -> std::io::Result<Self> {
        let account = Arc::new(Account {
            window: Mutex::new(FixedWindow::new(options.per_second)),
            api_key: options.api_key,
            team: Mutex::default(),
            rejections: Rejections::default(),
        });
        let server = Simulator::start(listener, routes(&account))?;
        Ok(Self { server, account })
    }

    /// What takes the place of `https://app.loops.so/api`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.server.address)
    }

    /// Where the team listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Every contact, the oldest first, as Loops shows it (Loops, API reference: find a contact).
    #[must_use]
    pub fn contacts(&self) -> Vec<Value> {
        lock(&self.account.team).contacts.iter().map(Contact::to_json).collect()
    }

    /// Every accepted event, in order.
    #[must_use]
    pub fn events(&self) -> Vec<ReceivedEvent> {
        lock(&self.account.team).events.clone()
    }

    /// Every call that was answered with a 2xx, in the order in which it took effect.
    #[must_use]
    pub fn calls(&self) -> Vec<ReceivedCall> {
        lock(&self.account.team).calls.clone()
    }

    /// The status of every refusal, in order.
    #[must_use]
    pub fn rejected_statuses(&self) -> Vec<u16> {
        self.account.rejections.statuses()
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loops").field("address", &self.server.address).finish_non_exhaustive()
    }
}

impl Default for LoopsOptions {
    fn default() -> Self {
        Self { api_key: "simulated".to_owned(), per_second: 10 }
    }
}

impl fmt::Debug for LoopsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopsOptions").field("api_key", &"[redacted]").field("per_second", &self.per_second).finish()
    }
}

struct Account {
    api_key: String,
    window: Mutex<FixedWindow>,
    team: Mutex<Team>,
    rejections: Rejections,
}

type LoopsResult = Result<Json<Value>, LoopsError>;

impl Account {
    /// Does what a call asks for and notes the call, as one step, so that both are in the same order.
    fn apply(
        &self,
        call: ReceivedCall,
        operation: impl FnOnce(&mut Team, &ReceivedCall) -> Result<Value, LoopsError>,
    ) -> LoopsResult {
        let mut team = lock(&self.team);
        let body = operation(&mut team, &call)?;
        team.calls.push(call);
        Ok(Json(body))
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split_once(' ').is_some_and(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer") && key == self.api_key)
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

fn routes(account: &Arc<Account>) -> Router {
    let api = Router::new()
        .route("/api/v1/contacts/update", put(update))
        .route("/api/v1/contacts/create", post(create))
        .route("/api/v1/contacts/find", get(find))
        .route("/api/v1/contacts/properties", get(properties).post(create_property))
        .route("/api/v1/events/send", post(send))
        .route("/api/v1/api-key", get(api_key))
        .route("/api/v1/lists", get(lists))
        .route("/api/{*rest}", any(|| async { LoopsError::not_found() }))
        .layer(from_fn_with_state(Arc::clone(account), authorize_and_limit))
        .layer(from_fn_with_state(account.rejections.clone(), Rejections::record));
    Router::new()
        .route("/", get(|| async { ABOUT }))
        .route("/contacts", get(show_contacts))
        .route("/events", get(show_events))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .merge(api)
        .with_state(Arc::clone(account))
}

/// Middleware: the key first, then the rate. Every answer but the 401 says what is left of the second (Loops, API
/// introduction: rate limiting); a call without a valid key takes nothing from it.
async fn authorize_and_limit(State(account): State<Arc<Account>>, request: Request, next: Next) -> Response {
    if !account.is_authorized(request.headers()) {
        return LoopsError::invalid_api_key();
    }
    let (limit, remaining) = {
        let mut window = lock(&account.window);
        (window.limit(), window.try_acquire(Instant::now()))
    };
    let mut response = match remaining {
        Some(_) => next.run(request).await,
        None => LoopsError::too_many_requests().into_response(),
    };
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(remaining.unwrap_or(0)));
    response
}

async fn update(State(account): State<Arc<Account>>, call: ReceivedCall) -> LoopsResult {
    account.apply(call, |team, call| {
        let id = team.update(rules::parse_contact(&call.body)?)?;
        Ok(json!({"success": true, "id": id}))
    })
}

async fn create(State(account): State<Arc<Account>>, call: ReceivedCall) -> LoopsResult {
    account.apply(call, |team, call| {
        let id = team.create(rules::parse_contact(&call.body)?)?;
        Ok(json!({"success": true, "id": id}))
    })
}

async fn send(State(account): State<Arc<Account>>, call: ReceivedCall) -> LoopsResult {
    account.apply(call, |team, call| {
        team.send(call, Timestamp::now())?;
        Ok(json!({"success": true}))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FindQuery {
    email: Option<String>,
    user_id: Option<String>,
}

async fn find(
    State(account): State<Arc<Account>>,
    query: Result<Query<FindQuery>, QueryRejection>,
    call: ReceivedCall,
) -> LoopsResult {
    let Query(FindQuery { email, user_id }) =
        query.map_err(|rejection| LoopsError::bad_request(rejection.body_text()))?;
    account.apply(call, |team, _| team.find(email.as_deref(), user_id.as_deref()))
}

#[derive(Deserialize)]
struct PropertiesQuery {
    list: Option<String>,
}

async fn properties(
    State(account): State<Arc<Account>>,
    query: Result<Query<PropertiesQuery>, QueryRejection>,
    call: ReceivedCall,
) -> LoopsResult {
    let Query(PropertiesQuery { list }) = query.map_err(|rejection| LoopsError::bad_request(rejection.body_text()))?;
    account.apply(call, |team, _| Ok(team.properties(list.as_deref() == Some("custom"))))
}

async fn create_property(State(account): State<Arc<Account>>, call: ReceivedCall) -> LoopsResult {
    account.apply(call, |team, call| {
        team.create_property(rules::parse_new_property(&call.body)?)?;
        Ok(json!({"success": true}))
    })
}

/// The team's name comes with its key (Loops, API reference: API key).
async fn api_key(State(account): State<Arc<Account>>, call: ReceivedCall) -> LoopsResult {
    account.apply(call, |_, _| Ok(json!({"success": true, "teamName": "Simulated team"})))
}

/// One list of each kind, as in Loops' examples (Loops, API reference: list mailing lists).
async fn lists(State(account): State<Arc<Account>>, call: ReceivedCall) -> LoopsResult {
    account.apply(call, |_, _| {
        Ok(json!([
            {
                "id": "clm2k8j4h6g0f8d6s4a2b0z8",
                "name": "Product updates",
                "description": "Monthly product news and release notes",
                "isPublic": true,
            },
            {"id": "cm06f5v0e45nf0ml5754o9cix", "name": "Beta testers", "description": null, "isPublic": false},
        ]))
    })
}

async fn show_contacts(State(account): State<Arc<Account>>) -> Json<Vec<Value>> {
    Json(lock(&account.team).contacts.iter().map(Contact::to_json).collect())
}

async fn show_events(State(account): State<Arc<Account>>) -> Json<Vec<Value>> {
    let to_json = |event: &ReceivedEvent| {
        json!({
            "idempotencyKey": event.idempotency_key,
            "receivedAt": event.received_at.to_string(),
            "body": event.body,
        })
    };
    Json(lock(&account.team).events.iter().map(to_json).collect())
}
