//! The running program: from the settings to the last delivery.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay::config::env::SharedSettings;
use relay::destination::http_client::{self, BuildError};
use relay::ports::clock::{SharedClock, SystemClock};
use relay_core::contact::ContactHashKey;
use relay_core::delivery::Direction;
use relay_core::secret::RelayTokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::app::{LocalSchemaRefresher, Relay};
use crate::http::health::{self, HealthRoutes};
use crate::http::{accept, routes};
use crate::metrics::Metrics;
use crate::reloading_secrets::{
    ReloadingSecrets, SIMULATED_API_KEY, Secrets, SecretsFileWatcher, SimulatedDestinations,
};
use crate::startup_banner::{Banner, DestinationSource, KeySource};
use crate::{telemetry, worker};
use relay::config::names::{LOOPS_SIGNING_SECRET, RELAY_LISTEN, RELAY_TOKEN};
use relay_simulator::{Clay, ClayOptions, Loops, LoopsOptions};
use relay_sqlite::data_dir::config::{LocalSettings, Setting};
use relay_sqlite::data_dir::{DataDir, DataDirError};
use relay_sqlite::store::{self, OpenError, SqliteStore};

/// How long requests and deliveries that are under way may take to end after a stop: as long as a call may take, and its
/// record. What only waits for its turn is stored and does not have to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(12);
/// The longest that the start waits for the list of contact properties; what takes longer is read beside the rows.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(1);
/// How often what was delivered long ago is forgotten.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder is not to be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store is not to be had.
    #[error(transparent)]
    Store(#[from] OpenError),
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
    Io(#[from] io::Error),
    /// A fault of the program.
    #[error(transparent)]
    Client(#[from] BuildError),
}

/// The simulated ends that were started.
#[derive(Debug)]
struct Simulators {
    clay: Option<Clay>,
    loops: Option<Loops>,
}

impl Simulators {
    fn destinations(&self) -> SimulatedDestinations {
        SimulatedDestinations {
            clay: self.clay.as_ref().map(|clay| clay.webhook_url("contacts")),
            loops: self.loops.is_some(),
        }
    }
}

/// Runs the relay until the process is told to stop; `environment` is what its settings were read from, besides the data
/// folder.
///
/// # Errors
/// When it cannot start.
pub async fn serve(settings: LocalSettings, environment: BTreeMap<String, String>) -> Result<(), StartError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let data_dir = DataDir::new(settings.data_dir.clone());
    let lock = data_dir.lock()?;
    let contact_hash_key = match settings.shared.contact_hash_key.clone() {
        Some(key) => Some(key),
        None => ContactHashKey::new(&data_dir.contact_hash_key()?),
    };
    let metrics = Metrics::new();
    telemetry::install_sink(metrics.clone(), contact_hash_key.clone());
    let store = SqliteStore::new(store::open(data_dir.path(), clock.now())?, Arc::clone(&clock))
        .with_contact_hash_key(contact_hash_key);
    let client = http_client::build()?;
    let listener = bind(settings.listen).await?;
    let address = listener.local_addr()?;
    data_dir.write_address(address)?;
    let simulators = start_simulators(&settings, address).await?;
    let mut shared = settings.shared.clone();
    if let Some(loops) = &simulators.loops {
        shared.loops_api_url = loops.api_url();
    }
    warn_unknown_events(&shared);
    let simulated_destinations = simulators.destinations();
    let initial_secrets = Secrets::from_settings(&settings, &data_dir, &simulated_destinations)?;
    let mut watcher =
        SecretsFileWatcher::new(data_dir.clone(), environment, simulated_destinations, settings.stored_names.clone());
    // It may have changed since the settings were read.
    let current_secrets = watcher.reload_if_changed().unwrap_or(initial_secrets);
    let secrets = ReloadingSecrets::new(current_secrets, Some(watcher));
    let relay = Arc::new(Relay::new(&shared, secrets.clone(), &store, &client, &clock));
    let schema_refresher = relay.schema_refresher();
    drop(tokio::time::timeout(SCHEMA_TIMEOUT, prefetch_schema(&schema_refresher, &shared)).await);
    print_banner(&settings, &data_dir, &simulators, address)?;

    let (stop, stopping) = watch::channel(false);
    let workers = start_workers(&relay, &store, &stopping);
    // They end with the process.
    tokio::spawn(schema_refresher.run());
    tokio::spawn(secrets.run(store.clone()));
    let app = routes::app(relay).merge(health::routes(HealthRoutes { metrics, store: store.clone() }));
    let requests = tokio::spawn(accept::serve(listener, app, wait_for_stop(stopping)));

    shutdown_signal().await?;
    info!("stopping: what is under way is brought to its end");
    stop.send_replace(true);
    let drained = async {
        for worker in workers {
            // A worker that panicked has nothing left to end.
            let _ = worker.await;
        }
        let _ = requests.await;
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, drained).await.is_err() {
        warn!("stopped before everything had ended; what was not delivered is stored");
    }
    lock.release();
    Ok(())
}

/// Reads the list of contact properties, and lets the room that it took at Loops come back: the first rows find all of it.
async fn prefetch_schema(refresher: &LocalSchemaRefresher, shared: &SharedSettings) {
    if refresher.refresh_if_due().await {
        tokio::time::sleep(Duration::from_secs(1) / shared.loops_rate.get()).await;
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, detail: error.to_string() })
}

/// Starts the simulated ends, on the ports after the relay's where these are free.
async fn start_simulators(settings: &LocalSettings, relay_address: SocketAddr) -> io::Result<Simulators> {
    let mut simulators = Simulators { clay: None, loops: None };
    if matches!(settings.clay_webhooks, Setting::Unset) {
        let options = ClayOptions { auth_token: settings.simulated_clay_token.clone(), ..ClayOptions::default() };
        simulators.clay = Some(Clay::start(bind_loopback_after(relay_address, 1).await?, options).await?);
    }
    if matches!(settings.loops_api_key, Setting::Unset) && !settings.loops_api_url_is_set {
        let options = LoopsOptions { api_key: SIMULATED_API_KEY.to_owned(), ..LoopsOptions::default() };
        simulators.loops = Some(Loops::start(bind_loopback_after(relay_address, 2).await?, options).await?);
    }
    Ok(simulators)
}

async fn bind_loopback_after(relay_address: SocketAddr, offset: u16) -> io::Result<TcpListener> {
    let port = relay_address.port().checked_add(offset).unwrap_or(0);
    match TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await,
    }
}

fn warn_unknown_events(shared: &SharedSettings) {
    for pattern in shared.relayed_events.unrecognized_patterns() {
        warn!(%pattern, "RELAYED_EVENTS: none of the events that Loops documents has this name");
    }
}

fn print_banner(
    settings: &LocalSettings,
    data_dir: &DataDir,
    simulators: &Simulators,
    address: SocketAddr,
) -> Result<(), StartError> {
    let generated_secret = match settings.signing_secrets {
        Setting::Unset => data_dir.signing_secret()?,
        Setting::Set(_) => String::new(),
    };
    let signing_secret = match &settings.signing_secrets {
        Setting::Unset => KeySource::Generated(&generated_secret),
        Setting::Set(secrets) => {
            KeySource::from_setting(!secrets.is_empty(), settings.stored_names.contains(&LOOPS_SIGNING_SECRET))
        }
    };
    let generated_token = match settings.relay_tokens {
        Setting::Unset => data_dir.relay_token()?,
        Setting::Set(_) => String::new(),
    };
    let relay_token = match &settings.relay_tokens {
        Setting::Unset => KeySource::Generated(&generated_token),
        Setting::Set(tokens) => {
            KeySource::from_setting(!RelayTokens::new(tokens).is_empty(), settings.stored_names.contains(&RELAY_TOKEN))
        }
    };
    let clay = match (&simulators.clay, &settings.clay_webhooks) {
        (Some(clay), _) => DestinationSource::Simulated(clay.address()),
        (None, Setting::Set(webhooks)) if webhooks.is_empty() => DestinationSource::Empty,
        (None, _) => DestinationSource::Set,
    };
    let loops = match (&simulators.loops, &settings.loops_api_key) {
        (Some(loops), _) => DestinationSource::Simulated(loops.address()),
        (None, Setting::Set(None)) => DestinationSource::Empty,
        (None, _) => DestinationSource::Set,
    };
    let program = program_path();
    let is_terminal = io::stdout().is_terminal();
    let (signing_secret, relay_token) = (signing_secret.hide_unless(is_terminal), relay_token.hide_unless(is_terminal));
    let banner =
        Banner { address, data_dir: data_dir.path(), signing_secret, relay_token, clay, loops, program: &program };
    let mut out = io::stdout().lock();
    out.write_all(banner.render().as_bytes())?;
    out.flush()?;
    Ok(())
}

/// How this program is called from the folder that it was called from.
fn program_path() -> String {
    let executable = std::env::current_exe().unwrap_or_else(|_| "relay-local".into());
    let current_dir = std::env::current_dir().unwrap_or_default();
    executable.strip_prefix(current_dir).unwrap_or(&executable).display().to_string()
}

fn start_workers(
    relay: &Relay,
    store: &SqliteStore,
    stopping: &watch::Receiver<bool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let clay_worker =
        worker::run(store.clone(), Direction::LoopsToClay, Arc::clone(&relay.clay_deliverer), stopping.clone());
    let loops_worker =
        worker::run(store.clone(), Direction::ClayToLoops, Arc::clone(&relay.loops_deliverer), stopping.clone());
    let purge = purge_loop(store.clone(), stopping.clone());
    vec![tokio::spawn(clay_worker), tokio::spawn(loops_worker), tokio::spawn(purge)]
}

async fn purge_loop(store: SqliteStore, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Err(error) = store.purge_delivered().await {
            error!(error = %error, "what was delivered long ago cannot be forgotten");
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(PURGE_INTERVAL) => {}
        }
    }
}

async fn wait_for_stop(mut stop: watch::Receiver<bool>) {
    // The sender lives until the end; were it gone, that would be a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn shutdown_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
