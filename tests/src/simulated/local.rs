//! The relay of one machine, without its sockets.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use relay::ambient::Ambient as _;
use relay::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay::settings::{SettingReader, SharedSettings};
use relay_core::delivery::Direction;
use relay_core::route::{ClayRoute, ClayWebhook};
use relay_core::row::Kind;
use relay_core::secret::{RelayTokens, SecretString};
use relay_core::signature::SigningSecret;
use relay_local::assembly::{Keys, Relay, SharedAmbient};
use relay_local::store::{self, SqliteStore};
use relay_local::worker;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Simulated;
use super::end::{End, State};
use crate::process::TOKEN;
use crate::webhook;

/// A relay between two ends.
#[derive(Debug)]
pub struct Local {
    relay: Relay<End, End>,
    world: Arc<Simulated>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

/// A folder for a store, in memory where there is such a place: what a disk takes is not what is looked at.
///
/// # Panics
/// When there is no room for it.
#[must_use]
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    folder.unwrap_or_else(|fault| panic!("{fault}"))
}

impl Local {
    /// Opens the folder, and starts the workers.
    ///
    /// # Panics
    /// When the folder cannot be opened.
    #[must_use]
    pub fn start(folder: &Path, world: &Arc<Simulated>, loops: &Arc<Mutex<State>>, clay: &Arc<Mutex<State>>) -> Self {
        let ambient: SharedAmbient = Arc::<Simulated>::clone(world);
        let opened = store::open(folder, ambient.now()).unwrap_or_else(|fault| panic!("{fault}"));
        let store = SqliteStore::new(opened, Arc::clone(&ambient));
        let shared = settings();
        let end = |state: &Arc<Mutex<State>>| End::new(Arc::clone(world), Arc::clone(state));
        let relay = Relay::between(end(loops), end(clay), &shared, keys(&shared), &store, &ambient);
        let (stop, stopping) = watch::channel(false);
        let clay = Arc::clone(&relay.clay_delivery);
        let loops = Arc::clone(&relay.loops_delivery);
        let to_clay = worker::drain(store.clone(), Direction::LoopsToClay, clay, stopping.clone());
        let to_loops = worker::drain(store, Direction::ClayToLoops, loops, stopping);
        let workers = vec![tokio::spawn(to_clay), tokio::spawn(to_loops)];
        Self { relay, world: Arc::clone(world), stop, workers }
    }

    /// Loops sends the webhook of the contact with this number; its status.
    ///
    /// # Panics
    /// When the request cannot be made.
    pub async fn webhook(&self, number: usize) -> u16 {
        let body = webhook::created(&format!("n{number}@example.com"));
        let mut request = Request::post("/webhooks/loops");
        for (name, value) in webhook::headers(&format!("msg_{number}"), self.world.now().as_second(), &body) {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::from(body)).unwrap_or_else(|fault| panic!("{fault}"));
        self.relay.webhook(request).await.status().as_u16()
    }

    /// Clay sends the event of the contact with this number; its status.
    ///
    /// # Panics
    /// When the request cannot be made.
    pub async fn event(&self, number: usize, prefer: &'static str) -> u16 {
        let body = json!({"email": format!("n{number}@example.com"), "eventName": "signed-up"}).to_string();
        let request = Request::post("/api/v1/events/send")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("prefer", prefer)
            .body(Bytes::from(body))
            .unwrap_or_else(|fault| panic!("{fault}"));
        self.relay.row(Kind::Event, request).await.status().as_u16()
    }

    /// Ends the workers.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}

fn settings() -> SharedSettings {
    let variables = std::collections::BTreeMap::from([("TYPED_PROPERTIES".to_owned(), "off".to_owned())]);
    let mut reader = SettingReader::new(&variables);
    SharedSettings::read(&mut reader)
}

fn keys(shared: &SharedSettings) -> Keys {
    let url = "https://clay.example.com/v3/sources/webhook/x";
    let webhooks = ClayWebhook::new(url, None).into_iter().collect();
    let routes = vec![ClayRoute { name: "default".to_owned(), events: shared.relayed_events.clone(), webhooks }];
    let signing_secrets = SigningSecret::parse(webhook::SECRET).into_iter().collect();
    Keys {
        loops_to_clay: LoopsToClaySecret { signing_secrets, routes },
        clay_to_loops: ClayToLoopsSecret {
            api_key: Some(SecretString::from("key")),
            tokens: RelayTokens::new([TOKEN.to_owned()]),
        },
    }
}
