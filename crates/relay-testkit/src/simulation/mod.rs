//! The relay inside a test's process, in either form: its handlers, its store and its workers, between far ends that are
//! ports and no sockets, so that tokio's paused clock moves all of it. Days pass in seconds.

pub mod aws;
pub mod end;
pub mod local;

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
use relay_core::secret::{RelayTokens, SecretString};
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::signature::SigningSecret;
use relay_local::reloading_secrets::Secrets;
use serde_json::json;
use tokio::time::Instant;

use crate::relay_process::TOKEN;
use crate::webhook;
use end::State;

/// A form of the relay, between two ends.
pub trait Form: Sized {
    /// What outlives it when it is killed.
    type Kept;

    /// What it is called in a table.
    const NAME: &str;
    /// How many processes ask an end that is down whether it is back.
    const ASKING: u64;
    /// How long after an end's answer it is on record at the latest: who is killed before sends the row again.
    const RECORD_TAKES: Duration;

    /// Nothing is kept yet. Where the form's store is in this process, `count` tells what the process holds.
    fn nothing(count: Option<fn() -> usize>) -> Self::Kept;

    /// What the store holds of the process's heap, in bytes: it is no part of the relay.
    fn held_by_store(kept: &Self::Kept) -> usize;

    /// Goes on with what is kept.
    fn start(kept: &Self::Kept, world: &Arc<Simulated>, loops: &Arc<Mutex<State>>, clay: &Arc<Mutex<State>>) -> Self;

    /// Answers `POST /webhooks/loops`: the status.
    fn take_webhook(&self, request: Request<Bytes>) -> impl Future<Output = u16> + Send;

    /// Answers `POST /api/v1/events/send`: the status.
    fn take_event(&self, request: Request<Bytes>) -> impl Future<Output = u16> + Send;

    /// Its world.
    fn world(&self) -> &Simulated;

    /// Ends the workers.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Loops sends the webhook of the contact with this number; the status.
///
/// # Panics
/// When the request cannot be made.
pub async fn send_webhook<F: Form>(relay: &F, number: usize) -> u16 {
    let body = webhook::created(&format!("n{number}@example.com"));
    let mut request = Request::post("/webhooks/loops");
    for (name, value) in webhook::headers(&format!("msg_{number}"), relay.world().now().as_second(), &body) {
        request = request.header(name, value);
    }
    let request = request.body(Bytes::from(body)).unwrap_or_else(|error| panic!("{error}"));
    relay.take_webhook(request).await
}

/// Clay sends the event of the contact with this number; the status.
///
/// # Panics
/// When the request cannot be made.
pub async fn send_event<F: Form>(relay: &F, number: usize, prefer: &'static str) -> u16 {
    let body = json!({"email": format!("n{number}@example.com"), "eventName": "signed-up"}).to_string();
    let request = Request::post("/api/v1/events/send")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("prefer", prefer)
        .body(Bytes::from(body))
        .unwrap_or_else(|error| panic!("{error}"));
    relay.take_event(request).await
}

fn settings() -> SharedSettings {
    let variables = BTreeMap::from([("TYPED_PROPERTIES".to_owned(), "off".to_owned())]);
    let mut reader = EnvReader::new(&variables);
    SharedSettings::read(&mut reader)
}

fn keys(shared: &SharedSettings) -> Secrets {
    let url = "https://clay.example.com/v3/sources/webhook/x";
    let webhooks = ClayWebhook::new(url, None).into_iter().collect();
    let routes = vec![ClayRoute { name: "default".to_owned(), events: shared.relayed_events.clone(), webhooks }];
    let signing_secrets = SigningSecret::parse(webhook::SECRET).into_iter().collect();
    Secrets {
        loops_to_clay: LoopsToClaySecret { signing_secrets, routes },
        clay_to_loops: ClayToLoopsSecret {
            api_key: Some(SecretString::from("key")),
            tokens: RelayTokens::new([TOKEN.to_owned()]),
        },
    }
}

/// When the simulation begins.
const BEGINNING: Timestamp = Timestamp::constant(1_734_425_918, 0);

/// The time that tokio's clock says, and chance from a seed.
#[derive(Debug)]
pub struct Simulated {
    /// How long the simulation had run when this runtime's clock began.
    before: Duration,
    began: Instant,
    chance: Mutex<Rng>,
}

impl Simulated {
    /// The world as it is after that long.
    #[must_use]
    pub fn after(before: Duration, seed: u64) -> Self {
        Self { before, began: Instant::now(), chance: Mutex::new(Rng::with_seed(seed)) }
    }

    /// How long the simulation has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    fn rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.chance.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        BEGINNING + SignedDuration::try_from(self.elapsed()).unwrap_or_default()
    }

    fn random(&self) -> f64 {
        self.rng(Rng::f64)
    }

    fn new_id(&self) -> String {
        self.rng(|rng| format!("{:032x}", rng.u128(..)))
    }
}
