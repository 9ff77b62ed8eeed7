//! What the worker to Clay does with an event that found no route when it came, and is sent again from the dead letters: by
//! now there may be routes for it.

use relay_core::delivery::{Cargo, Delivery, DeliveryId, Disposition, History, Reason, ReasonCode};
use relay_core::policy::retry;
use relay_core::webhook::event;
use relay_core::webhook::payload::CLAY_BYTES;
use tokio::time::Instant;
use tracing::error;

use crate::delivery::clay::ClayDelivery;
use crate::delivery::outcome::tell;
use crate::destination::clay::ClayApi;
use crate::ports::clock::Ambient;
use crate::ports::queue::{Attempt, Queue, StoreFault, WebhookLedger};
use crate::ports::secrets::{LoopsToClaySecret, SecretSource};
use crate::rate_limit::limiter::{Pace, Readiness};
use crate::telemetry::event::{Became, Signal, Tally};

/// The worker to Clay, and the queue that it drains.
#[derive(Debug, Clone)]
pub struct Rerouting<S, C, W, P, A, Q> {
    /// What sends the deliveries that have a route.
    pub clay: ClayDelivery<S, C, W, P, A>,
    /// Where an event that had none is stored for those that it has now.
    pub queue: Q,
}

impl<S, C, W, P, A, Q> Attempt for Rerouting<S, C, W, P, A, Q>
where
    S: SecretSource<LoopsToClaySecret>,
    C: ClayApi,
    W: WebhookLedger,
    P: Pace,
    A: Ambient,
    Q: Queue,
{
    fn readiness(&self) -> Readiness {
        self.clay.readiness()
    }

    async fn attempt(&self, delivery: &Delivery, history: History) -> Disposition {
        match &delivery.cargo {
            Cargo::ClayRow { route, webhook_id } if route.is_empty() => {
                let begun = Instant::now();
                let end = self.reroute(delivery, webhook_id, history).await;
                match end {
                    Disposition::Delivered => {
                        Signal { took: begun.elapsed(), ..Signal::of_work(delivery, Became::Queued) }.tell();
                    }
                    _ => tell(delivery, history, end, begun, Tally::default(), self.clay.ambient.now()),
                }
                end
            }
            _ => self.clay.attempt(delivery, history).await,
        }
    }
}

impl<S, C, W, P, A, Q> Rerouting<S, C, W, P, A, Q>
where
    S: SecretSource<LoopsToClaySecret>,
    A: Ambient,
    Q: Queue,
{
    /// Stores the event for every route that takes it now. It is done then: each of these is a delivery of its own.
    async fn reroute(&self, delivery: &Delivery, webhook_id: &str, history: History) -> Disposition {
        if delivery.body.len() > CLAY_BYTES {
            return Disposition::Dead(Reason::own(ReasonCode::TooLarge));
        }
        let no_route = Disposition::Dead(Reason::own(ReasonCode::NoRoute));
        let Some(name) = event::stored_name(&delivery.body) else { return no_route };
        let Ok(mut secret) = self.clay.secrets.current().await else {
            return self.later(history, ReasonCode::SecretUnavailable);
        };
        if !secret.routes.iter().any(|route| route.events.selects(&name)) {
            // The route may have been made a moment ago.
            match self.clay.secrets.reread().await {
                Ok(read) => secret = read,
                Err(_) => return self.later(history, ReasonCode::SecretUnavailable),
            }
        }
        let mut end = no_route;
        for route in secret.routes.iter().filter(|route| route.events.selects(&name)) {
            if let Err(fault) = self.store(delivery, &route.name, webhook_id).await {
                // What is stored already is a repeat the next time.
                error!(delivery.id = %delivery.id, %fault, "an event cannot be stored for its route");
                return self.later(history, ReasonCode::Internal);
            }
            end = Disposition::Delivered;
        }
        end
    }

    async fn store(&self, delivery: &Delivery, route: &str, webhook_id: &str) -> Result<(), StoreFault> {
        let delivery = Delivery {
            id: DeliveryId::of_webhook(route, webhook_id),
            cargo: Cargo::ClayRow { route: route.to_owned(), webhook_id: webhook_id.to_owned() },
            ..delivery.clone()
        };
        self.queue.put_or_keep(&delivery).await.map(drop)
    }

    fn later(&self, history: History, code: ReasonCode) -> Disposition {
        let ambient = &self.clay.ambient;
        retry::try_later(history, Reason::own(code), None, ambient.now(), ambient.chance())
    }
}
