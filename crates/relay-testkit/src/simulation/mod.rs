//! Either deployment inside a test's process: its handlers, store and workers, between destinations that are ports
//! instead of sockets, so that tokio's paused clock controls all of it. Days pass in seconds.

pub mod aws;
pub mod local;
pub mod simulated_destination;
mod static_secret;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use relay::config::env::{EnvReader, SharedSettings};
use relay::ports::clock::Clock;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::secret::SecretString;
use relay_core::token::RelayTokens;
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::signature::SigningSecret;
use relay_local::reloading_secrets::Secrets;
use serde_json::json;
use tokio::time::Instant;

use crate::relay_process::RELAY_TOKEN;
use crate::webhook;
use simulated_destination::DestinationState;

/// A deployment of the relay between simulated destinations.
pub trait RelayUnderTest: Sized {
    /// What outlives it when it is killed.
    type PersistentState;

    /// Name in a table.
    const NAME: &str;
    /// Number of processes that probe a destination that is down.
    const PROBING_PROCESSES: u64;
    /// Maximum time from a response to its record: if the relay is killed earlier, it sends the row again.
    const RECORD_LATENCY: Duration;

    /// Creates an empty state. If the deployment's store is in this process, `measure_heap` measures its heap.
    fn empty_state(measure_heap: Option<fn() -> usize>) -> Self::PersistentState;

    /// What the store holds of the process's heap, in bytes: it is no part of the relay.
    fn store_heap_bytes(state: &Self::PersistentState) -> usize;

    /// Starts with this state.
    fn start(
        state: &Self::PersistentState,
        clock: &Arc<SimulatedClock>,
        loops: &Arc<Mutex<DestinationState>>,
        clay: &Arc<Mutex<DestinationState>>,
    ) -> Self;

    /// Handles `POST /webhooks/loops`; returns the status.
    fn handle_webhook(&self, request: Request<Bytes>) -> impl Future<Output = u16> + Send;

    /// Handles `POST /api/v1/events/send`; returns the status.
    fn handle_event(&self, request: Request<Bytes>) -> impl Future<Output = u16> + Send;

    /// Its world.
    fn clock(&self) -> &SimulatedClock;

    /// Stops the workers.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Loops sends the webhook of the contact with this number; the status.
///
/// # Panics
/// When the request cannot be made.
pub async fn send_webhook<F: RelayUnderTest>(relay: &F, number: usize) -> u16 {
    let body = webhook::contact_created(&format!("n{number}@example.com"));
    let mut request = Request::post("/webhooks/loops");
    for (name, value) in webhook::headers(&format!("msg_{number}"), relay.clock().now().as_second(), &body) {
        request = request.header(name, value);
    }
    let request = request.body(Bytes::from(body)).unwrap_or_else(|error| panic!("{error}"));
    relay.handle_webhook(request).await
}

/// Clay sends the event of the contact with this number; the status.
///
/// # Panics
/// When the request cannot be made.
pub async fn send_event<F: RelayUnderTest>(relay: &F, number: usize, prefer: &'static str) -> u16 {
    let body = json!({"email": format!("n{number}@example.com"), "eventName": "signed-up"}).to_string();
    let request = Request::post("/api/v1/events/send")
        .header("authorization", format!("Bearer {RELAY_TOKEN}"))
        .header("prefer", prefer)
        .body(Bytes::from(body))
        .unwrap_or_else(|error| panic!("{error}"));
    relay.handle_event(request).await
}

fn settings() -> SharedSettings {
    let variables = BTreeMap::from([("TYPED_PROPERTIES".to_owned(), "off".to_owned())]);
    let mut reader = EnvReader::new(&variables);
    SharedSettings::from_reader(&mut reader)
}

fn keys(shared: &SharedSettings) -> Secrets {
    let url = "https://clay.example.com/v3/sources/webhook/x";
    let webhooks = ClayWebhook::new(url, None).into_iter().collect();
    let routes = vec![ClayRoute { name: "default".to_owned(), events: shared.relayed_events.clone(), webhooks }];
    let signing_secrets = SigningSecret::parse(webhook::SIGNING_SECRET).into_iter().collect();
    Secrets {
        loops_to_clay: Arc::new(LoopsToClaySecret { signing_secrets, routes, ..LoopsToClaySecret::default() }),
        clay_to_loops: Arc::new(ClayToLoopsSecret {
            api_key: Some(SecretString::from("key")),
            tokens: RelayTokens::new([RELAY_TOKEN.to_owned()]),
            ..ClayToLoopsSecret::default()
        }),
    }
}

/// When the simulation begins.
const SIMULATION_START: Timestamp = Timestamp::constant(1_734_425_918, 0);

/// The time of tokio's clock, and random numbers from a seed.
#[derive(Debug)]
pub struct SimulatedClock {
    /// Simulated time before this runtime's clock began.
    elapsed_before: Duration,
    began: Instant,
    rng: Mutex<Rng>,
}

impl SimulatedClock {
    /// The world as it is after that long.
    #[must_use]
    pub fn starting_at(elapsed_before: Duration, seed: u64) -> Self {
        Self { elapsed_before, began: Instant::now(), rng: Mutex::new(Rng::with_seed(seed)) }
    }

    /// How long the simulation has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed_before + self.began.elapsed()
    }

    fn with_rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        SIMULATION_START + SignedDuration::try_from(self.elapsed()).unwrap_or_default()
    }

    fn random(&self) -> f64 {
        self.with_rng(Rng::f64)
    }

    fn new_id(&self) -> String {
        self.with_rng(|rng| format!("{:032x}", rng.u128(..)))
    }
}
