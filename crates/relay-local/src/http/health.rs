//! The routes for monitoring: `GET /metrics` and `GET /healthz`. Neither shows personal data, so neither asks for a token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_simulator::host::require_this_machine;
use relay_sqlite::SqliteStore;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::error;

use crate::metrics::Metrics;

/// Content type of `/metrics` (OpenMetrics 1.0, "Protocol negotiation").
const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long the result of a check of the store counts: each check writes to the disk, and anybody may ask.
const HEALTH_TTL: Duration = Duration::from_secs(1);

/// What monitoring shows.
#[derive(Clone)]
struct Monitor {
    metrics: Arc<Metrics>,
    store: SqliteStore,
    /// When the store was checked last, and whether it was well.
    last_check: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// The routes of a relay that listens on an address.
pub(crate) fn routes(metrics: Arc<Metrics>, store: SqliteStore, listen: IpAddr) -> Router {
    let monitor = Monitor { metrics, store, last_check: Arc::default() };
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(healthz))
        .route_layer(from_fn_with_state(listen, require_this_machine))
        .with_state(monitor)
}

async fn show_metrics(State(Monitor { metrics, store, .. }): State<Monitor>) -> Response {
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

async fn healthz(State(monitor): State<Monitor>) -> Response {
    let json = [(CONTENT_TYPE, "application/json")];
    if monitor.is_healthy().await {
        (json, r#"{"success":true}"#).into_response()
    } else {
        let message = r#"{"success":false,"message":"The store cannot be written: look into the relay's log."}"#;
        (StatusCode::SERVICE_UNAVAILABLE, json, message).into_response()
    }
}

impl Monitor {
    async fn is_healthy(&self) -> bool {
        // Held during the check, so that all who ask meanwhile wait for the same one.
        let mut last_check = self.last_check.lock().await;
        if let Some((_, is_healthy)) = last_check.filter(|(at, _)| at.elapsed() < HEALTH_TTL) {
            return is_healthy;
        }
        let result = self.store.check_health().await;
        if let Err(error) = &result {
            error!(%error, "the store cannot be written");
        }
        *last_check = Some((Instant::now(), result.is_ok()));
        result.is_ok()
    }
}
