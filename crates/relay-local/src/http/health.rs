//! The routes for monitoring: `GET /metrics` and `GET /healthz`. Neither shows personal data, so neither asks for a token.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_sqlite::SqliteStore;
use tracing::error;

use crate::metrics::Metrics;

/// Content type of `/metrics` (OpenMetrics 1.0, "Protocol negotiation").
const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type HealthState = State<(Arc<Metrics>, SqliteStore)>;

pub(crate) fn routes(metrics: Arc<Metrics>, store: SqliteStore) -> Router {
    Router::new().route("/metrics", get(show_metrics)).route("/healthz", get(healthz)).with_state((metrics, store))
}

async fn show_metrics(State((metrics, store)): HealthState) -> Response {
    for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
        match store.backlog(direction).await {
            Ok(status) => {
                let age = status.oldest_received_at.map(|oldest| Timestamp::now().duration_since(oldest).as_secs_f64());
                metrics.record_queue(direction, status.waiting, age.unwrap_or_default().max(0.0));
            }
            // The other metrics are shown all the same; `/healthz` reports the store's health.
            Err(error) => error!(%error, "the queue cannot be measured"),
        }
    }
    ([(CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE)], metrics.to_openmetrics()).into_response()
}

async fn healthz(State((_, store)): HealthState) -> Response {
    let json = [(CONTENT_TYPE, "application/json")];
    match store.check_health().await {
        Ok(()) => (json, r#"{"success":true}"#).into_response(),
        Err(error) => {
            error!(%error, "the store cannot be written");
            let message = r#"{"success":false,"message":"The store cannot be written: look into the relay's log."}"#;
            (StatusCode::SERVICE_UNAVAILABLE, json, message).into_response()
        }
    }
}
