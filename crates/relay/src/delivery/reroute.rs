//! Rerouting: what a worker does with an event that had no route when it arrived, and that an operator has redriven. By now
//! there may be routes for it.

use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::retry;
use relay_core::webhook::event;
use relay_core::webhook::payload::MAX_CLAY_PAYLOAD_BYTES;
use tokio::time::Instant;
use tracing::error;

use crate::delivery::log_attempt;
use crate::ports::clock::SharedClock;
use crate::ports::queue::{Queue, StoreError};
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome};

/// Returns the webhook id of a delivery without a route.
pub(crate) fn webhook_without_route(delivery: &Delivery) -> Option<&str> {
    match &delivery.kind {
        DeliveryKind::ClayRow { route, webhook_id } if route.is_empty() => Some(webhook_id),
        _ => None,
    }
}

/// Puts an event into the queue once for each route that selects it now. It is delivered then: each of these is a delivery
/// of its own.
#[derive(Debug)]
pub(crate) struct Rerouter<'a, S, Q> {
    pub(crate) secrets: &'a S,
    pub(crate) clock: &'a SharedClock,
    pub(crate) queue: &'a Q,
}

impl<S, Q> Rerouter<'_, S, Q>
where
    S: SecretSource<LoopsToClaySecret>,
    Q: Queue,
{
    /// Reroutes and logs the result.
    pub(crate) async fn reroute(
        &self,
        delivery: &Delivery,
        webhook_id: &str,
        history: AttemptHistory,
    ) -> AttemptResult {
        let started = Instant::now();
        let result = self.enqueue_for_routes(delivery, webhook_id, history).await;
        match result {
            AttemptResult::Delivered => {
                let event = DeliveryEvent::for_delivery(delivery, EventOutcome::Queued);
                DeliveryEvent { duration: started.elapsed(), ..event }.emit();
            }
            _ => log_attempt(delivery, history, result, started, CallStats::default(), self.clock.now()),
        }
        result
    }

    async fn enqueue_for_routes(
        &self,
        delivery: &Delivery,
        webhook_id: &str,
        history: AttemptHistory,
    ) -> AttemptResult {
        if delivery.body.len() > MAX_CLAY_PAYLOAD_BYTES {
            return AttemptResult::DeadLetter(Reason::without_status(ReasonCode::TooLarge));
        }
        let no_route = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::NoRoute));
        let Some(name) = event::event_name_of(&delivery.body) else { return no_route };
        let Ok(mut secret) = self.secrets.current().await else {
            return self.retry_later(history, ReasonCode::SecretUnavailable);
        };
        if !secret.routes.iter().any(|route| route.events.selects(&name)) {
            // The route may have been made a moment ago.
            match self.secrets.refresh().await {
                Ok(refreshed) => secret = refreshed,
                Err(_) => return self.retry_later(history, ReasonCode::SecretUnavailable),
            }
        }
        let mut result = no_route;
        for route in secret.routes.iter().filter(|route| route.events.selects(&name)) {
            if let Err(error) = self.enqueue(delivery, &route.name, webhook_id).await {
                // A delivery that is stored already is a duplicate the next time.
                error!(delivery.id = %delivery.id, %error, "an event cannot be stored for its route");
                return self.retry_later(history, ReasonCode::Internal);
            }
            result = AttemptResult::Delivered;
        }
        result
    }

    async fn enqueue(&self, delivery: &Delivery, route: &str, webhook_id: &str) -> Result<(), StoreError> {
        let delivery = Delivery {
            id: DeliveryId::for_webhook(route, webhook_id),
            kind: DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: webhook_id.to_owned() },
            ..delivery.clone()
        };
        self.queue.enqueue_or_dead_letter_conflict(&delivery).await.map(drop)
    }

    fn retry_later(&self, history: AttemptHistory, code: ReasonCode) -> AttemptResult {
        let reason = Reason::without_status(code);
        retry::retry_or_dead_letter(history, reason, None, self.clock.now(), self.clock.random())
    }
}
