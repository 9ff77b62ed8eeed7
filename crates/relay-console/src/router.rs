//! The routes of a console, and how they reach the relay behind it.
//!
//! See docs/adr/0019-console.md.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::backend::ConsoleBackend;
use crate::console::{Console, Document, PageToken, parse_direction, run};
use crate::error::ConsoleError;
use crate::guard::{self, Access};
use crate::view::{Connect, Overview};
use crate::{dead_letters, deliveries, page, stream};

/// Maximum length of what the page sends, in bytes: a row of 256 KiB as a JSON text, and some.
const MAX_BODY_BYTES: usize = 300 * 1024;

/// Pages that are told of each change. The page polls where there are more.
const MAX_STREAMS: usize = 16;

/// Returns the routes of the console of a relay: the page at `/`, its files below `/console/`, and what it asks for below
/// `/console/api/`. `extra` are routes below `/console/api/` that stand behind the same guards.
pub fn routes<B: ConsoleBackend>(backend: Arc<B>, access: Access, extra: Router) -> Router {
    let token = PageToken::random();
    let api = Router::new()
        .route("/console/api/overview", get(overview::<B>))
        .route("/console/api/stream", get(stream::stream::<B>))
        .route("/console/api/contact", post(find_contact::<B>))
        .route("/console/api/deliveries", get(deliveries::list::<B>))
        .route("/console/api/deliveries/{id}", get(deliveries::story::<B>))
        .route("/console/api/deliveries/{id}/body", post(deliveries::body::<B>))
        .route("/console/api/dead-letters/retry", post(dead_letters::retry::<B>))
        .route("/console/api/dead-letters/drop", post(dead_letters::drop_them::<B>))
        .route("/console/api/pause", post(pause::<B>))
        .route("/console/api/connect", get(connect::<B>))
        .route("/console/api/doctor", post(examine::<B>))
        .with_state(Console { backend, streams: Arc::new(Semaphore::new(MAX_STREAMS)), token: token.clone() })
        .merge(extra)
        .route_layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route_layer(from_fn_with_state((access.clone(), token.clone()), guard::require_token));
    let page = Router::new().route("/", get(page::index)).route("/console/{*path}", get(page::file)).with_state(token);
    guard::with_headers(page.merge(api).route_layer(from_fn_with_state(access, guard::require_own_page)))
}

async fn overview<B: ConsoleBackend>(State(console): State<Console<B>>) -> Result<Json<Overview>, ConsoleError> {
    Ok(Json(run(async move || console.backend.overview().await).await?))
}

async fn connect<B: ConsoleBackend>(State(console): State<Console<B>>) -> Result<Json<Connect>, ConsoleError> {
    Ok(Json(run(async move || console.backend.connect().await).await?))
}

async fn examine<B: ConsoleBackend>(State(console): State<Console<B>>) -> Result<Json<Value>, ConsoleError> {
    let findings = run(async move || console.backend.examine().await).await?;
    Ok(Json(json!({ "findings": findings })))
}

/// A contact that is looked for, by address or user id.
#[derive(Deserialize)]
struct ContactToFind {
    contact: String,
}

async fn find_contact<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    Document(ContactToFind { contact }): Document<ContactToFind>,
) -> Result<Json<Value>, ConsoleError> {
    if contact.trim().is_empty() {
        return Err(ConsoleError::BadRequest("Write the address or the user id of a contact.".to_owned()));
    }
    let hash = run(async move || console.backend.contact_hash(contact.trim()).await).await?;
    let hash = hash.ok_or_else(|| {
        ConsoleError::NotFound("This relay has no key to hash contacts with: find the delivery by its id.".to_owned())
    })?;
    Ok(Json(json!({ "contact": hash })))
}

#[derive(Deserialize)]
struct Pause {
    direction: String,
    paused: bool,
}

async fn pause<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    Document(Pause { direction, paused }): Document<Pause>,
) -> Result<Json<Value>, ConsoleError> {
    let direction = parse_direction(&direction)?;
    let changed = run(async move || console.backend.set_paused(direction, paused).await).await?;
    Ok(Json(json!({ "changed": changed })))
}
