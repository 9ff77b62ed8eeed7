//! Rerouting: what a worker does with an event that had no route when it arrived, and that an operator has redriven. By now
//! there may be routes for it.

use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::webhook::event;
use relay_core::webhook::payload::MAX_CLAY_PAYLOAD_BYTES;
use tokio::time::Instant;
use tracing::error;

use crate::delivery::{log_attempt, retry_later};
use crate::ports::clock::SharedClock;
use crate::ports::queue::Queue;
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome};

/// Returns the webhook id of a delivery without a route.
pub(crate) fn webhook_without_route(delivery: &Delivery) -> Option<&str> {
    match &delivery.kind {
        DeliveryKind::ClayRow { route, webhook_id } if route.is_empty() => Some(webhook_id),
        _ => None,
    }
}

/// Puts an event into the queue once for each route that selects it now, and logs the result. It is delivered then: each of
/// these is a delivery of its own.
pub(crate) async fn reroute(
    delivery: &Delivery,
    webhook_id: &str,
    history: AttemptHistory,
    secrets: &impl SecretSource<LoopsToClaySecret>,
    queue: &impl Queue,
    clock: &SharedClock,
) -> AttemptResult {
    let started_at = Instant::now();
    let result = match enqueue_for_routes(delivery, webhook_id, secrets, queue).await {
        Ok(()) => {
            let event = DeliveryEvent::for_delivery(delivery, EventOutcome::Queued);
            DeliveryEvent { duration: started_at.elapsed(), ..event }.emit();
            return AttemptResult::Delivered;
        }
        Err(code @ (ReasonCode::NoRoute | ReasonCode::TooLarge)) => {
            AttemptResult::DeadLetter(Reason::without_status(code))
        }
        Err(code) => retry_later(history, Reason::without_status(code), None, clock),
    };
    log_attempt(delivery, history, result, started_at, CallStats::default(), clock.now());
    result
}

async fn enqueue_for_routes(
    delivery: &Delivery,
    webhook_id: &str,
    secrets: &impl SecretSource<LoopsToClaySecret>,
    queue: &impl Queue,
) -> Result<(), ReasonCode> {
    if delivery.body.len() > MAX_CLAY_PAYLOAD_BYTES {
        return Err(ReasonCode::TooLarge);
    }
    let name = event::event_name_of(&delivery.body).ok_or(ReasonCode::NoRoute)?;
    let mut secret = secrets.current().await.map_err(|_| ReasonCode::SecretUnavailable)?;
    if secret.routes_for(&name).next().is_none() {
        // The route may have been made a moment ago.
        secret = secrets.refresh().await.map_err(|_| ReasonCode::SecretUnavailable)?;
    }
    let mut result = Err(ReasonCode::NoRoute);
    for route in secret.routes_for(&name) {
        let id = DeliveryId::for_webhook(&route.name, webhook_id);
        let kind = DeliveryKind::ClayRow { route: route.name.clone(), webhook_id: webhook_id.to_owned() };
        let routed = Delivery { id, kind, ..delivery.clone() }.in_account(&delivery.account());
        if let Err(error) = queue.enqueue_or_dead_letter_conflict(&routed).await {
            // A delivery that is stored already is a duplicate the next time.
            error!(delivery.id = %delivery.id, %error, "an event cannot be stored for its route");
            return Err(ReasonCode::Internal);
        }
        result = Ok(());
    }
    result
}
