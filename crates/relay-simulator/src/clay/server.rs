//! A Clay workspace: any number of table webhooks under one rate limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::behavior::{Behavior, BehaviorLayer};
use crate::clay::state::{ClayError, ClayOptions, ClayRow, Workspace};
use crate::{Rejections, Simulator};

/// Maximum wait of `GET /rows?wait=…`.
const MAX_ROWS_WAIT: Duration = Duration::from_secs(10);

const ABOUT: &str = "A simulated Clay workspace. POST a row to /v3/sources/webhook/{name}; \
                     GET /rows shows what arrived, GET /rows?wait=1 waits for the first row.\n";

/// A simulated Clay workspace on a socket of its own. It stops when it is dropped.
#[derive(Debug)]
pub struct Clay {
    pub(crate) server: Simulator,
    workspace: Arc<Workspace>,
}

impl Clay {
    /// Serves a new, empty workspace on `listener`. Every webhook name exists from its first use.
    ///
    /// # Errors
    /// If the socket has no address.
    pub async fn start(listener: TcpListener, options: ClayOptions) -> std::io::Result<Self> {
        let workspace = Arc::new(Workspace::new(options));
        let behavior = watch::Sender::default();
        let server = Simulator::start(listener, routes(&workspace, &behavior), behavior)?;
        Ok(Self { server, workspace })
    }

    /// The URL of a webhook, in Clay's form (Clay, webhook guide: set-up).
    pub fn webhook_url(&self, name: &str) -> String {
        format!("http://{}/v3/sources/webhook/{name}", self.server.address)
    }

    /// Address of the server.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How its webhooks answer.
    pub fn behavior(&self) -> Behavior {
        self.server.behavior()
    }

    /// Changes how its webhooks answer from now on, and returns how they did.
    pub fn set_behavior(&self, behavior: Behavior) -> Behavior {
        self.server.set_behavior(behavior)
    }

    /// All accepted rows, in the order of arrival.
    pub fn rows(&self) -> Vec<ClayRow> {
        self.workspace.rows()
    }

    /// The last `max` accepted rows, in the order of arrival, and the number of all.
    pub fn latest_rows(&self, max: usize) -> (Vec<ClayRow>, usize) {
        self.workspace.latest_rows(max)
    }

    /// The statuses of all rejected requests, in order.
    pub fn rejected_statuses(&self) -> Vec<u16> {
        self.workspace.rejections.statuses()
    }
}

fn routes(workspace: &Arc<Workspace>, behavior: &watch::Sender<Behavior>) -> Router {
    let behavior = BehaviorLayer::new(behavior, |status| ClayError::of_status(status).into_response());
    let webhooks = Router::new()
        .route("/v3/sources/webhook/{name}", post(receive))
        .layer(from_fn_with_state(behavior, BehaviorLayer::apply))
        .layer(from_fn_with_state(workspace.rejections.clone(), Rejections::record));
    Router::new()
        .route("/", get(|| async { ABOUT }))
        .route("/rows", get(show_rows))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .merge(webhooks)
        .with_state(Arc::clone(workspace))
}

/// The body of the response to an accepted row is not stated; here it is no JSON, so that no caller relies on it.
async fn receive(
    State(workspace): State<Arc<Workspace>>,
    Path(webhook): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<&'static str, ClayError> {
    let body = body.map_err(|_| ClayError(StatusCode::BAD_REQUEST, "Payload could not be read"))?;
    workspace.accept(webhook, &headers, body)?;
    Ok("OK")
}

#[derive(Deserialize)]
struct WaitQuery {
    #[serde(default)]
    wait: usize,
}

async fn show_rows(State(workspace): State<Arc<Workspace>>, Query(WaitQuery { wait }): Query<WaitQuery>) -> Response {
    // After a timeout the rows so far are shown.
    let _ = tokio::time::timeout(MAX_ROWS_WAIT, workspace.wait_for_rows(wait)).await;
    let rows: Vec<String> = workspace.rows().iter().filter_map(|row| serde_json::to_string(row).ok()).collect();
    let list = if rows.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", rows.join(",\n")) };
    ([(CONTENT_TYPE, "application/json")], list).into_response()
}
