//! The running program: from the settings to the last delivery.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay::config::env::SharedSettings;
use relay::destination::http_client::{self, BuildFault};
use relay::ports::clock::System;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::Direction;
use relay_core::secret::RelayTokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::app::{LocalProperties, Relay, SharedAmbient};
use crate::http::health::{self, Monitor};
use crate::http::{accept, routes};
use crate::metrics::Counts;
use crate::reloading_secrets::{KeptSecrets, Keys, SIMULATED_KEY, SimulatedEnds, StoredKeys};
use crate::startup_banner::{Banner, End, Key};
use crate::{telemetry, worker};
use relay_simulator::{Clay, ClayOptions, Loops, LoopsOptions};
use relay_sqlite::data_dir::config::{Given, LOOPS_SIGNING_SECRET, LocalSettings, RELAY_LISTEN, RELAY_TOKEN};
use relay_sqlite::data_dir::{DataFolder, FolderFault};
use relay_sqlite::store::{self, OpenFault, SqliteStore};

/// How long requests and deliveries that are under way may take to end after a stop: as long as a call may take, and its
/// record. What only waits for its turn is stored and does not have to end.
const STOP_WITHIN: Duration = Duration::from_secs(12);
/// The longest that the start waits for the list of contact properties; what takes longer is read beside the rows.
const LIST_WITHIN: Duration = Duration::from_secs(1);
/// How often what was delivered long ago is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The data folder is not to be had.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// The store is not to be had.
    #[error(transparent)]
    Store(#[from] OpenFault),
    /// The address is not to be had.
    #[error(
        "{address} cannot be listened on ({detail}): stop the program that has it, or set {RELAY_LISTEN} to another address, for example {RELAY_LISTEN}=127.0.0.1:8797"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        detail: String,
    },
    /// The system refuses what every program needs.
    #[error("the relay cannot start ({0}): look into the system's limits")]
    System(#[from] io::Error),
    /// A fault of the program.
    #[error(transparent)]
    Client(#[from] BuildFault),
}

/// The simulated ends that were started.
#[derive(Debug)]
struct Simulated {
    clay: Option<Clay>,
    loops: Option<Loops>,
}

impl Simulated {
    fn ends(&self) -> SimulatedEnds {
        SimulatedEnds { clay: self.clay.as_ref().map(|clay| clay.webhook_url("contacts")), loops: self.loops.is_some() }
    }
}

/// Runs the relay until the process is told to stop; `environment` is what its settings were read from, besides the data
/// folder.
///
/// # Errors
/// When it cannot start.
pub async fn serve(settings: LocalSettings, environment: BTreeMap<String, String>) -> Result<(), StartFault> {
    let ambient: SharedAmbient = Arc::new(System);
    let folder = DataFolder::new(settings.data.clone());
    let lock = folder.lock()?;
    let contact_hash_key = match settings.shared.contact_hash_key.clone() {
        Some(key) => Some(key),
        None => ContactHashKey::new(&folder.contact_hash_key()?),
    };
    let counts = Counts::begin();
    telemetry::listen(counts.clone(), contact_hash_key.clone());
    let store = SqliteStore::new(store::open(folder.path(), ambient.now())?, Arc::clone(&ambient))
        .with_contact_hash_key(contact_hash_key);
    let client = http_client::build()?;
    let listener = bind(settings.listen).await?;
    let address = listener.local_addr()?;
    folder.keep_address(address)?;
    let simulated = simulate(&settings, address).await?;
    let mut shared = settings.shared.clone();
    if let Some(loops) = &simulated.loops {
        shared.loops_api_url = loops.api_url();
    }
    warn_about(&shared);
    let ends = simulated.ends();
    let known = Keys::of(&settings, &folder, &ends)?;
    let mut stored = StoredKeys::new(folder.clone(), environment, ends, settings.stored.clone());
    // It may have changed since the settings were read.
    let keys = stored.changed().unwrap_or(known);
    let secrets = KeptSecrets::new(keys, Some(stored));
    let relay = Arc::new(Relay::new(&shared, secrets.clone(), &store, &client, &ambient));
    let properties = relay.property_reader();
    drop(tokio::time::timeout(LIST_WITHIN, read_before_rows(&properties, &shared)).await);
    announce(&settings, &folder, &simulated, address)?;

    let (stop, stopping) = watch::channel(false);
    let workers = start_workers(&relay, &store, &stopping);
    // They end with the process.
    tokio::spawn(properties.keep());
    tokio::spawn(secrets.keep(store.clone()));
    let app = routes::app(relay).merge(health::routes(Monitor { counts, store: store.clone() }));
    let requests = tokio::spawn(accept::serve(listener, app, stopped(stopping)));

    told_to_stop().await?;
    info!("stopping: what is under way is brought to its end");
    stop.send_replace(true);
    let ended = async {
        for worker in workers {
            // A worker that panicked has nothing left to end.
            let _ = worker.await;
        }
        let _ = requests.await;
    };
    if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
        warn!("stopped before everything had ended; what was not delivered is stored");
    }
    lock.release();
    Ok(())
}

/// Reads the list of contact properties, and lets the room that it took at Loops come back: the first rows find all of it.
async fn read_before_rows(properties: &LocalProperties, shared: &SharedSettings) {
    if properties.read().await {
        tokio::time::sleep(Duration::from_secs(1) / shared.loops_rate.get()).await;
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartFault> {
    TcpListener::bind(address).await.map_err(|fault| StartFault::Listen { address, detail: fault.to_string() })
}

/// Starts the simulated ends, on the ports after the relay's where these are free.
async fn simulate(settings: &LocalSettings, relay: SocketAddr) -> io::Result<Simulated> {
    let mut simulated = Simulated { clay: None, loops: None };
    if matches!(settings.clay_webhooks, Given::NotSet) {
        let options = ClayOptions { auth_token: settings.clay_token.clone(), ..ClayOptions::default() };
        simulated.clay = Some(Clay::start(loopback_after(relay, 1).await?, options).await?);
    }
    if matches!(settings.loops_api_key, Given::NotSet) && !settings.loops_api_url_given {
        let options = LoopsOptions { api_key: SIMULATED_KEY.to_owned(), ..LoopsOptions::default() };
        simulated.loops = Some(Loops::start(loopback_after(relay, 2).await?, options).await?);
    }
    Ok(simulated)
}

async fn loopback_after(relay: SocketAddr, step: u16) -> io::Result<TcpListener> {
    let port = relay.port().checked_add(step).unwrap_or(0);
    match TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await,
    }
}

fn warn_about(shared: &SharedSettings) {
    for pattern in shared.relayed_events.unknown() {
        warn!(%pattern, "RELAYED_EVENTS: none of the events that Loops documents has this name");
    }
}

fn announce(
    settings: &LocalSettings,
    folder: &DataFolder,
    simulated: &Simulated,
    address: SocketAddr,
) -> Result<(), StartFault> {
    let generated_secret = match settings.signing_secrets {
        Given::NotSet => folder.signing_secret()?,
        Given::Set(_) => String::new(),
    };
    let signing_secret = match &settings.signing_secrets {
        Given::NotSet => Key::Generated(&generated_secret),
        Given::Set(secrets) => Key::of(!secrets.is_empty(), settings.stored.contains(&LOOPS_SIGNING_SECRET)),
    };
    let generated_token = match settings.relay_tokens {
        Given::NotSet => folder.relay_token()?,
        Given::Set(_) => String::new(),
    };
    let relay_token = match &settings.relay_tokens {
        Given::NotSet => Key::Generated(&generated_token),
        Given::Set(tokens) => Key::of(!RelayTokens::new(tokens).is_empty(), settings.stored.contains(&RELAY_TOKEN)),
    };
    let clay = match (&simulated.clay, &settings.clay_webhooks) {
        (Some(clay), _) => End::Simulated(clay.address()),
        (None, Given::Set(webhooks)) if webhooks.is_empty() => End::Closed,
        (None, _) => End::Set,
    };
    let loops = match (&simulated.loops, &settings.loops_api_key) {
        (Some(loops), _) => End::Simulated(loops.address()),
        (None, Given::Set(None)) => End::Closed,
        (None, _) => End::Set,
    };
    let program = program();
    let terminal = io::stdout().is_terminal();
    let (signing_secret, relay_token) = (signing_secret.only_on(terminal), relay_token.only_on(terminal));
    let banner = Banner { address, data: folder.path(), signing_secret, relay_token, clay, loops, program: &program };
    let mut out = io::stdout().lock();
    out.write_all(banner.text().as_bytes())?;
    out.flush()?;
    Ok(())
}

/// How this program is called from the folder that it was called from.
fn program() -> String {
    let called = std::env::current_exe().unwrap_or_else(|_| "relay-local".into());
    let here = std::env::current_dir().unwrap_or_default();
    called.strip_prefix(here).unwrap_or(&called).display().to_string()
}

fn start_workers(
    relay: &Relay,
    store: &SqliteStore,
    stopping: &watch::Receiver<bool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let to_clay =
        worker::drain(store.clone(), Direction::LoopsToClay, Arc::clone(&relay.clay_delivery), stopping.clone());
    let to_loops =
        worker::drain(store.clone(), Direction::ClayToLoops, Arc::clone(&relay.loops_delivery), stopping.clone());
    let old = forget_old(store.clone(), stopping.clone());
    vec![tokio::spawn(to_clay), tokio::spawn(to_loops), tokio::spawn(old)]
}

async fn forget_old(store: SqliteStore, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Err(fault) = store.forget_old().await {
            error!(fault = %fault, "what was delivered long ago cannot be forgotten");
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender lives until the end; were it gone, that would be a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
