//! What a monitor asks: `GET /metrics` and `GET /healthz`. Neither tells whom anything is about, so neither asks for a token.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use relay_core::delivery::Direction;
use tracing::error;

use crate::metrics::{Metrics, QueueSample};
use relay_sqlite::SqliteStore;

/// The form of the answer to `/metrics` (OpenMetrics 1.0, "Protocol negotiation").
const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is known of the running relay.
#[derive(Debug, Clone)]
pub struct HealthRoutes {
    /// What was counted.
    pub metrics: Metrics,
    /// What waits.
    pub store: SqliteStore,
}

/// The two paths.
pub fn routes(state: HealthRoutes) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(state)
}

async fn metrics(State(state): State<HealthRoutes>) -> Response {
    let mut queues = Vec::new();
    for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
        match state.store.backlog(direction).await {
            Ok(backlog) => {
                let age = backlog
                    .oldest_received_at
                    .map(|oldest| Timestamp::now().duration_since(oldest).as_secs_f64().max(0.0));
                let (direction, oldest_seconds) = (direction.as_str(), age.unwrap_or_default());
                queues.push(QueueSample { direction, waiting: backlog.waiting, oldest_seconds });
            }
            // What was counted is told all the same; the store's own state is asked at `/healthz`.
            Err(error) => error!(%error, "the queue cannot be measured"),
        }
    }
    ([(CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE)], state.metrics.to_openmetrics(&queues)).into_response()
}

async fn healthz(State(state): State<HealthRoutes>) -> Response {
    let json = [(CONTENT_TYPE, "application/json")];
    match state.store.check_health().await {
        Ok(()) => (json, r#"{"success":true}"#).into_response(),
        Err(error) => {
            error!(%error, "the store cannot be written");
            let message = r#"{"success":false,"message":"The store cannot be written: look into the relay's log."}"#;
            (StatusCode::SERVICE_UNAVAILABLE, json, message).into_response()
        }
    }
}
