//! The running program, from its start to the last delivery after a stop signal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay::config::names::{LOOPS_SIGNING_SECRET, RELAY_LISTEN, RELAY_TOKEN};
use relay::destination::http_client::{self, BuildError};
use relay::destination::loops::HttpLoopsClient;
use relay::ports::accounts::load_accounts;
use relay::ports::clock::{SharedClock, SystemClock};
use relay::ports::queue::StoreError;
use relay::ports::secrets::SecretSource as _;
use relay_console::guard::Access;
use relay_core::account::DestinationKind;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::Direction;
use relay_core::token::Scope;
use relay_doctor::invocation;
use relay_simulator::{Clay, Loops};
use relay_sqlite::data_dir::config::{LocalSettings, Setting};
use relay_sqlite::data_dir::destinations::{DestinationError, HalfConfigured, destination_name, destination_setting};
use relay_sqlite::data_dir::{DataDir, DataDirError};
use relay_sqlite::{OpenError, SqliteStore};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::app::Relay;
use crate::console::statistics::{PerDirection, Statistics};
use crate::console::{self, LocalConsole};
use crate::http::connections::Connections;
use crate::http::{accept, health, routes};
use crate::metrics::Metrics;
use crate::reloading_secrets::{ReloadingSecrets, SimulatedDestinations, release_all_held};
use crate::startup_banner::{Banner, DestinationSource, KeySource};
use crate::trial::{self, Simulators, Trial};
use crate::{telemetry, worker};

/// Maximum time for requests and deliveries in progress after a stop signal: that of a try while Clay waits, and of its record.
/// With the closing of the store it is less than the ten seconds after which Docker kills (docker stop, `--timeout`). What has
/// not ended by then is sent again after the start.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(6);
/// Maximum time that the start waits for the list of contact properties; after that it is read while rows are handled.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two deletions of old records.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// How long the process runs before it forgets anything, by the monotonic clock.
const MIN_UPTIME_TO_PURGE: Duration = Duration::from_secs(3 * 3600);

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(
        "{address} cannot be listened on ({detail}): stop the program that has it, or set {RELAY_LISTEN} to another address, for example {RELAY_LISTEN}=127.0.0.1:8797"
    )]
    Listen { address: SocketAddr, detail: io::Error },
    #[error("the relay cannot start ({0}): look into the system's limits")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Client(#[from] BuildError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("the accounts that the data folder has served cannot be read or recorded ({0}): look at the disk")]
    Accounts(#[from] StoreError),
}

/// Runs the relay until the process gets a stop signal. `environment` does not include the settings of the secrets file.
/// With `simulate`, every destination that is not set is simulated, whatever else is set or was served.
pub(crate) async fn serve(
    mut settings: LocalSettings,
    environment: BTreeMap<String, String>,
    simulate: bool,
) -> Result<(), StartError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let data_dir = DataDir::new(settings.data_dir.clone());
    let lock = data_dir.lock()?;
    let contact_hash_key = match settings.shared.contact_hash_key.clone() {
        Some(key) => Some(key),
        None => ContactHashKey::new(&data_dir.contact_hash_key()?),
    };
    let metrics = Arc::new(Metrics::new());
    let statistics = Arc::new(Statistics::new(clock.now()));
    telemetry::install_sink(Arc::clone(&metrics), Arc::clone(&statistics), contact_hash_key.clone());
    let store = SqliteStore::new(relay_sqlite::open(data_dir.path(), clock.now())?, Arc::clone(&clock))
        .with_contact_hash_key(contact_hash_key.clone());
    for file in data_dir.close_files()? {
        let file = file.display();
        warn!(%file, "other users of this machine could read this file until now: set new keys if there are any");
    }
    let half_configured = if simulate {
        Vec::new()
    } else {
        let (accounts, _) = load_accounts(&store, || clock.new_id()).await?;
        settings.check_simulated(&environment, &accounts)?;
        settings.close_half_configured()
    };
    let client = http_client::build()?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|detail| StartError::Listen { address: settings.listen, detail })?;
    let address = listener.local_addr()?;
    data_dir.write_address(address)?;
    if !address.ip().is_loopback() {
        warn!(%address, "RELAY_LISTEN: other machines can reach the relay by plain HTTP, /metrics and /healthz without a token");
    }
    let simulators = Simulators::start(&settings, address).await?;
    let mut shared = settings.shared.clone();
    if let Some(loops) = &simulators.loops {
        shared.loops_api_url = loops.api_url();
    }
    for pattern in shared.relayed_events.unrecognized_patterns() {
        warn!(%pattern, "RELAYED_EVENTS: none of the events that Loops documents has this name");
    }
    let simulated = SimulatedDestinations {
        clay: simulators.clay.as_ref().map(|clay| clay.webhook_url("contacts")),
        loops: simulators.loops.is_some(),
        on_request: simulate,
    };
    let secrets = ReloadingSecrets::load(&settings, environment, data_dir.clone(), simulated)?;
    let loops = HttpLoopsClient::new(client.clone(), &shared.loops_api_url);
    let relay = Arc::new(Relay::with_destinations(loops, client, &shared, secrets.clone(), &store, &clock));
    secrets.record_destinations(&store).await?;
    warn_of_simulated(&settings, simulate);
    for HalfConfigured { direction, missing, set } in &half_configured {
        let destination = destination_name(*direction);
        warn!("{destination} is closed, because {set} is set and {missing} is not: set it, or start with --simulate");
    }
    // The account of a new key is asked for before the first row needs it.
    drop(relay.api_handler.rows.secrets.current().await);
    let schema_refresher = relay.api_handler.rows.schema_refresher();
    let prefetch_schema = async {
        if schema_refresher.refresh_if_due().await {
            // The first rows find the full quota of Loops again, of which the account may have taken a call too.
            tokio::time::sleep(Duration::from_secs(2) / shared.loops_rate.get()).await;
        }
    };
    drop(tokio::time::timeout(SCHEMA_TIMEOUT, prefetch_schema).await);
    print_banner(&settings, &data_dir, &simulators, &half_configured, address)?;
    // The simulators run until it is dropped: after the last delivery.
    let trial = Arc::new(Trial::new(simulators, address, secrets.clone(), store.clone())?);

    let (stop, stopping) = watch::channel(false);
    let (clay, loops) = (Arc::clone(&relay.clay_deliverer), Arc::clone(&relay.loops_deliverer));
    let workers = [
        tokio::spawn(worker::run(store.clone(), Direction::LoopsToClay, clay, stopping.clone())),
        tokio::spawn(worker::run(store.clone(), Direction::ClayToLoops, loops, stopping.clone())),
        tokio::spawn(purge_loop(store.clone(), stopping.clone())),
    ];
    // These end with the process. The cause of what is held may have been fixed while no relay ran.
    tokio::spawn(release_all_held(store.clone()));
    tokio::spawn(store.clone().run_log_truncation());
    tokio::spawn(schema_refresher.run());
    tokio::spawn(secrets.clone().run(store.clone()));
    let mut app = routes::app(Arc::clone(&relay)).merge(health::routes(metrics, store, address.ip()));
    if settings.console {
        let access = if address.ip().is_loopback() { Access::ThisMachine } else { console::with_relay_token(&secrets) };
        let rates = PerDirection { loops_to_clay: shared.clay_rate.get(), clay_to_loops: shared.loops_rate.get() };
        let trial_routes = trial::routes(Arc::clone(&trial));
        let (secrets, trial) = (secrets.clone(), Arc::clone(&trial));
        invocation::set_command_line(invocation::local_command_line(data_dir.path()));
        let backend = LocalConsole {
            data_dir,
            address,
            relay,
            secrets: secrets.clone(),
            statistics,
            trial,
            contact_hash_key,
            rates,
        };
        app = app.merge(relay_console::router::routes(Arc::new(backend), access, trial_routes));
    }
    let requests = tokio::spawn(accept::serve(listener, app, Connections::new(stopping)));

    shutdown_signal().await?;
    info!("stopping: what is under way is brought to its end");
    stop.send_replace(true);
    let drained = async {
        for worker in workers {
            // A worker that panicked has nothing left to finish.
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

/// Says in the log that a destination is simulated, unless the relay is a trial as a whole.
fn warn_of_simulated(settings: &LocalSettings, simulate: bool) {
    let is_simulated = |direction| settings.destination(direction) == DestinationKind::Simulated;
    if !simulate && Direction::ALL.into_iter().all(is_simulated) {
        return;
    }
    for direction in Direction::ALL.into_iter().filter(|direction| is_simulated(*direction)) {
        let (destination, variable) = (destination_name(direction), destination_setting(direction));
        warn!("{destination} is simulated, because {variable} is not set: nothing reaches the real {destination}");
    }
}

fn print_banner(
    settings: &LocalSettings,
    data_dir: &DataDir,
    simulators: &Simulators,
    half_configured: &[HalfConfigured],
    address: SocketAddr,
) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    let is_terminal = out.is_terminal();
    let from_setting = |name, is_empty| KeySource::from_setting(is_empty, settings.stored_names.contains(&name));
    let signing_secret = match &settings.signing_secrets {
        Setting::Unset => KeySource::generated(data_dir.signing_secret()?, is_terminal),
        Setting::Set(secrets) => from_setting(LOOPS_SIGNING_SECRET, secrets.is_empty()),
    };
    let relay_token = match &settings.relay_tokens {
        Setting::Unset => KeySource::generated(data_dir.relay_token()?, is_terminal),
        Setting::Set(tokens) => match from_setting(RELAY_TOKEN, tokens.is_empty()) {
            KeySource::Set
                if tokens.iter().any(|token| token.name.is_some() || token.scopes != Scope::DEFAULT.into()) =>
            {
                KeySource::SetList
            }
            source => source,
        },
    };
    let destination = |direction, simulated: Option<SocketAddr>| {
        let half = half_configured.iter().find(|half| half.direction == direction);
        match (simulated, settings.destination(direction), half) {
            (Some(address), ..) => DestinationSource::Simulated(address),
            (None, _, Some(half)) => DestinationSource::HalfConfigured(half.set),
            (None, DestinationKind::Closed, None) => DestinationSource::Empty,
            (None, ..) => DestinationSource::Set,
        }
    };
    let banner = Banner {
        address,
        data_dir: data_dir.path(),
        signing_secret,
        relay_token,
        clay: destination(Direction::LoopsToClay, simulators.clay.as_ref().map(Clay::address)),
        loops: destination(Direction::ClayToLoops, simulators.loops.as_ref().map(Loops::address)),
        console: settings.console,
        program: &program_path(),
    };
    out.write_all(banner.render().as_bytes())?;
    Ok(out.flush()?)
}

/// Returns the path of this program, relative to the current folder if it is in it.
fn program_path() -> String {
    let executable = std::env::current_exe().unwrap_or_else(|_| "relay-local".into());
    let current_dir = std::env::current_dir().unwrap_or_default();
    executable.strip_prefix(current_dir).unwrap_or(&executable).display().to_string()
}

/// Forgets what was delivered long ago, for the first time some hours after the start: a machine may start with a wrong clock.
async fn purge_loop(store: SqliteStore, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + MIN_UPTIME_TO_PURGE, PURGE_INTERVAL);
    loop {
        let purge = async {
            ticks.tick().await;
            if let Err(error) = store.purge_delivered().await {
                error!(error = %error, "what was delivered long ago cannot be forgotten");
            }
        };
        // Each of its transactions is whole, so it may end between two.
        tokio::select! {
            _ = stop.changed() => return,
            () = purge => {}
        }
    }
}

async fn shutdown_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;
    use relay::ports::clock::Clock;
    use relay::ports::queue::Queue as _;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{AttemptResult, Delivery, DeliveryId, DeliveryKind};
    use relay_sqlite::ClaimOrder;
    use relay_sqlite::admin::SqliteAdmin;

    use super::*;

    /// A clock that is set.
    #[derive(Debug)]
    struct SetClock(Mutex<Timestamp>);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn random(&self) -> f64 {
            0.5
        }

        fn new_id(&self) -> String {
            "1".to_owned()
        }
    }

    async fn deliver(store: &SqliteStore, webhook_id: &str, received_at: Timestamp) {
        let delivery = Delivery {
            id: DeliveryId::for_webhook("a", webhook_id),
            contact: ContactKey::from_email("ada@example.com"),
            received_at,
            kind: DeliveryKind::ClayRow { route: "a".to_owned(), webhook_id: webhook_id.to_owned() },
            body: "{}".into(),
        };
        store.enqueue(&delivery).await.unwrap();
        let claimed = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, 1).await.unwrap().remove(0);
        store.finish_attempt(&claimed.delivery.id, AttemptResult::Delivered.into()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn relay_forgets_nothing_in_its_first_three_hours() {
        let folder = tempfile::tempdir().unwrap();
        let (long_ago, today) = (Timestamp::constant(1_700_000_000, 0), Timestamp::constant(1_800_000_000, 0));
        let clock = Arc::new(SetClock(Mutex::new(long_ago)));
        let opened = relay_sqlite::open(folder.path(), long_ago).unwrap();
        let store = SqliteStore::new(opened, Arc::<SetClock>::clone(&clock));
        deliver(&store, "msg_1", long_ago).await;
        *clock.0.lock().unwrap() = today;
        deliver(&store, "msg_2", today).await;
        let count = || SqliteAdmin::open(folder.path()).unwrap().summary().unwrap().deliveries;
        let (stop, stopping) = watch::channel(false);
        let purging = tokio::spawn(purge_loop(store, stopping));
        tokio::time::sleep(Duration::from_secs(3 * 3600 - 60)).await;
        assert_eq!(count(), 2);
        tokio::time::sleep(Duration::from_secs(120)).await;
        stop.send_replace(true);
        purging.await.unwrap();
        assert_eq!(count(), 1);
    }
}
