//! The routes of the trial, below `/console/api/trial`. The console puts them behind its guards, which also limit what is read.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use relay_console::error::ConsoleError;
use relay_core::delivery::Direction;
use relay_simulator::Behavior;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::view::TrialView;
use super::{Trial, TrialError};

/// The routes of a trial. They answer 404 while no destination is simulated.
pub fn routes(trial: Arc<Trial>) -> Router {
    Router::new()
        .route("/console/api/trial", get(show))
        .route("/console/api/trial/contacts", post(create_contact))
        .route("/console/api/trial/call", post(call))
        .route("/console/api/trial/destination", post(set_behavior))
        .route_layer(from_fn_with_state(Arc::clone(&trial), require_simulated))
        .with_state(trial)
}

async fn require_simulated(
    State(trial): State<Arc<Trial>>,
    request: Request,
    next: Next,
) -> Result<Response, ConsoleError> {
    if trial.is_simulated() { Ok(next.run(request).await) } else { Err(TrialError::Over.into()) }
}

async fn show(State(trial): State<Arc<Trial>>) -> Json<TrialView> {
    Json(trial.view())
}

async fn create_contact(
    State(trial): State<Arc<Trial>>,
    fields: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ConsoleError> {
    let fields = fields.map_err(|rejection| TrialError::Malformed(rejection.body_text()))?;
    let (status, body) = trial.create_contact(&fields).await?;
    Ok(Json(json!({"status": status, "body": body})))
}

async fn call(
    State(trial): State<Arc<Trial>>,
    call: Result<Json<Call>, JsonRejection>,
) -> Result<Json<Answer>, ConsoleError> {
    Ok(Json(trial.call(parsed(call)?).await?))
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Destination {
    Clay,
    Loops,
}

#[derive(Debug, Deserialize)]
struct SetBehavior {
    destination: Destination,
    behavior: Behavior,
}

async fn set_behavior(
    State(trial): State<Arc<Trial>>,
    change: Result<Json<SetBehavior>, JsonRejection>,
) -> Result<Json<Value>, ConsoleError> {
    let SetBehavior { destination, behavior } = parsed(change)?;
    let direction = match destination {
        Destination::Clay => Direction::LoopsToClay,
        Destination::Loops => Direction::ClayToLoops,
    };
    Ok(Json(json!({"changed": trial.set_behavior(direction, behavior).await?})))
}

fn parsed<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, TrialError> {
    body.map(|Json(value)| value).map_err(|rejection| TrialError::Malformed(rejection.body_text()))
}
