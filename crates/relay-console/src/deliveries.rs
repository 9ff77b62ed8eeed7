//! Lists of deliveries, one delivery's story, and its body.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use relay::operate::selection::{Selection, select};
use relay::ports::admin::{Admin as _, DeliveryPage, DeliveryQuery, DeliveryRecord, PageKey};
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue as _};
use relay_core::delivery::{DeliveryId, ReasonCode};
use relay_core::delivery_state::DeliveryState;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::advice;
use crate::backend::ConsoleBackend;
use crate::console::{Console, parse_direction, run};
use crate::error::ConsoleError;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
/// Stands among the states for what waits until an operator has fixed the cause.
const HELD: &str = "held";

/// What the page asks for. An empty value is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    state: String,
    direction: String,
    reason: String,
    contact: String,
    /// Id of a delivery, or the `webhook-id` of Loops.
    id: String,
    after: String,
    limit: Option<u32>,
}

impl ListQuery {
    fn to_query(&self) -> Result<DeliveryQuery, ConsoleError> {
        let state =
            match self.state.as_str() {
                "" => None,
                HELD => Some(DeliveryState::Waiting),
                state => Some(state.parse().map_err(|_| {
                    ConsoleError::BadRequest("A state is waiting, held, delivered or dead.".to_owned())
                })?),
            };
        let direction =
            Some(self.direction.as_str()).filter(|text| !text.is_empty()).map(parse_direction).transpose()?;
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Ok(DeliveryQuery {
            state,
            direction,
            reason: text(&self.reason),
            held: self.state == HELD,
            contact_hash: text(&self.contact),
            ..DeliveryQuery::default()
        })
    }
}

/// `GET /console/api/deliveries`.
pub(crate) async fn list<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    asked: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, ConsoleError> {
    let Query(asked) = asked.map_err(|error| ConsoleError::BadRequest(format!("{error}.")))?;
    let query = asked.to_query()?;
    let page = run(async move || find(&console, &asked, query).await).await?;
    let next = page.next.map(|PageKey(key)| key);
    Ok(Json(json!({"deliveries": page.records, "next": next})))
}

async fn find<B: ConsoleBackend>(
    console: &Console<B>,
    asked: &ListQuery,
    query: DeliveryQuery,
) -> Result<DeliveryPage, ConsoleError> {
    let admin = console.backend.admin()?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    if asked.id.is_empty() {
        let key = Some(PageKey(asked.after.clone())).filter(|PageKey(key)| !key.is_empty());
        return admin.deliveries_page(&query, limit, key.as_ref()).await.map_err(ConsoleError::unavailable);
    }
    if let Some(record) =
        admin.delivery(&DeliveryId::from_stored(asked.id.clone())).await.map_err(ConsoleError::unavailable)?
    {
        return Ok(DeliveryPage { records: vec![record], next: None });
    }
    let routes = console.backend.route_names().await?;
    let query = DeliveryQuery { webhook_id: Some(asked.id.clone()), routes, ..query };
    let records = admin.latest_deliveries(&query, limit, &|_| ()).await.map_err(ConsoleError::unavailable)?;
    Ok(DeliveryPage { records: records.into_iter().rev().collect(), next: None })
}

/// `GET /console/api/deliveries/{id}`.
pub(crate) async fn story<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ConsoleError> {
    run(async move || {
        let admin = console.backend.admin()?;
        let id = DeliveryId::from_stored(id);
        let record = admin.delivery(&id).await.map_err(ConsoleError::unavailable)?;
        let body_stored = admin.body(&id).await.map_err(ConsoleError::unavailable)?.is_some();
        // Some dead letters are on no other record.
        let (record, body_stored) = match record {
            Some(record) => (record, body_stored),
            None => {
                let dead_letter = find_dead_letter(&console, id.as_str()).await?;
                (dead_letter.as_ref().map(DeadLetter::to_record).ok_or_else(|| no_such_delivery(id.as_str()))?, true)
            }
        };
        Ok(Json(json!({"nextStep": next_step(&record), "delivery": record, "bodyStored": body_stored})))
    })
    .await
}

/// `POST /console/api/deliveries/{id}/body`. It is people's data: only after a click, and never kept.
pub(crate) async fn body<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ConsoleError> {
    run(async move || {
        let admin = console.backend.admin()?;
        let stored = admin.body(&DeliveryId::from_stored(id.clone())).await.map_err(ConsoleError::unavailable)?;
        let body = match stored {
            Some(body) => Some(body),
            None => find_dead_letter(&console, &id).await?.map(|dead_letter| dead_letter.body().clone()),
        };
        let body = body.ok_or_else(|| {
            ConsoleError::NotFound(
                "The body is not stored any more: a delivery that has arrived leaves none.".to_owned(),
            )
        })?;
        Ok(Json(json!({"body": String::from_utf8_lossy(&body)})))
    })
    .await
}

async fn find_dead_letter<B: ConsoleBackend>(
    console: &Console<B>,
    id: &str,
) -> Result<Option<DeadLetter>, ConsoleError> {
    let mut queue = console.backend.dead_letters(None)?;
    let selection = Selection { ids: vec![id.to_owned()], ..Selection::default() };
    let selected = select(&mut queue, &selection, &|_, _| ()).await;
    queue.release().await;
    Ok(selected.map_err(ConsoleError::unavailable)?.dead_letters.pop())
}

fn no_such_delivery(id: &str) -> ConsoleError {
    ConsoleError::NotFound(format!(
        "There is no record of {id}: it is misspelt, was answered directly on a stack, or was delivered more than 30 days ago."
    ))
}

/// Returns what an operator does next about a delivery, in one sentence.
fn next_step(record: &DeliveryRecord) -> &'static str {
    let reason = record.reason.as_deref().and_then(ReasonCode::parse);
    match (record.state, reason) {
        _ if record.dropped_at.is_some() => "It was dropped, and nothing is to be done.",
        (DeliveryState::Delivered, _) => "It has arrived, and nothing is to be done.",
        (DeliveryState::Waiting, Some(reason)) => advice::for_waiting(reason),
        (DeliveryState::Waiting, None) => "It waits for its turn, and is sent by itself.",
        (DeliveryState::Dead, Some(reason)) => advice::for_dead(reason),
        (DeliveryState::Dead, None) => {
            "It was received as often as the queue allows: look into the log for its id, then retry it."
        }
    }
}
