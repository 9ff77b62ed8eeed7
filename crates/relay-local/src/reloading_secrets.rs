//! The secrets of a running relay. When `relayctl setup --local` changes the secrets file, the relay uses the new secrets
//! without a restart, within a second or as soon as a secret does not work, and retries held deliveries at once.
//!
//! Nothing that was revoked lives on: what is taken out of the file is closed at once, and what a file had that can no longer be
//! used, after a minute.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use relay::config::env::SettingError;
use relay::config::names::{CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_TOKEN};
use relay::ports::accounts::update_accounts;
use relay::ports::queue::StoreError;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretError, SecretField, SecretSource};
use relay_core::account::{AccountId, DestinationKind, KeyAccount, ServedAccounts};
use relay_core::delivery::Direction;
use relay_core::secret::SecretString;
use relay_core::token::{RelayToken, RelayTokens, Scope};
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::signature::SigningSecret;
use relay_sqlite::SqliteStore;
use relay_sqlite::data_dir::config::{LocalSettings, ROUTE_NAME, Setting};
use relay_sqlite::data_dir::secrets_file::{SECRETS_FILE, SecretsFileError, merge_into_env};
use relay_sqlite::data_dir::{DataDir, DataDirError};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// API key of the simulated Loops.
pub(crate) const SIMULATED_API_KEY: &str = "simulated";
/// Time between two checks of the secrets file.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last secrets are used while the file cannot be: an editor may write it in two steps. Also the time between two
/// reports of such a file.
const UNUSABLE_FILE_GRACE: Duration = Duration::from_secs(60);

/// The secrets of both directions.
#[derive(Debug)]
pub struct Secrets {
    /// Signing secrets and routes.
    pub loops_to_clay: Arc<LoopsToClaySecret>,
    /// Loops key and relay tokens.
    pub clay_to_loops: Arc<ClayToLoopsSecret>,
}

/// The destinations that are simulated, from the start to the end of the process.
pub(crate) struct SimulatedDestinations {
    /// URL of the simulated Clay's webhook.
    pub(crate) clay: Option<String>,
    pub(crate) loops: bool,
    /// Whether `--simulate` was given: then no destination is closed because it is not set.
    pub(crate) on_request: bool,
}

impl Secrets {
    /// Combines the settings, the generated secrets of the data folder, and the simulated destinations.
    fn from_settings(
        settings: &LocalSettings,
        data_dir: &DataDir,
        simulated: &SimulatedDestinations,
    ) -> Result<Self, DataDirError> {
        let signing_secrets = match &settings.signing_secrets {
            Setting::Set(secrets) => secrets.clone(),
            Setting::Unset => SigningSecret::parse(&data_dir.signing_secret()?).into_iter().collect(),
        };
        let (webhooks, clay_account) = match (&settings.clay_webhooks, &simulated.clay) {
            (Setting::Set(webhooks), _) => (webhooks.clone(), AccountId::default()),
            (Setting::Unset, Some(url)) => {
                let webhook = ClayWebhook::new(url, settings.simulated_clay_token.as_deref());
                (webhook.into_iter().collect(), AccountId::simulated())
            }
            (Setting::Unset, None) => (Vec::new(), AccountId::default()),
        };
        let (api_key, loops_account) = match (&settings.loops_api_key, simulated.loops) {
            (Setting::Set(None), _) | (Setting::Unset, false) => (None, AccountId::default()),
            (Setting::Set(key), false) => (key.clone(), AccountId::default()),
            (_, true) => (Some(SecretString::from(SIMULATED_API_KEY)), AccountId::simulated()),
        };
        let tokens = match &settings.relay_tokens {
            Setting::Set(tokens) => tokens.clone(),
            // In a trial nothing is real, and the generated token may do everything. With a real Loops it has the scopes that it
            // had before there were any.
            Setting::Unset => {
                let mut token = RelayToken::from_text(&data_dir.relay_token()?);
                if let Some(token) = token.as_mut().filter(|_| loops_account.is_simulated()) {
                    token.scopes.extend(Scope::ALL);
                }
                RelayTokens::from_tokens(token.into_iter().collect())
            }
        };
        let events = settings.shared.relayed_events.clone();
        let routes = vec![ClayRoute { name: ROUTE_NAME.to_owned(), events, webhooks }];
        Ok(Self {
            loops_to_clay: Arc::new(LoopsToClaySecret { signing_secrets, routes, account: clay_account }),
            // Which account of Loops a real key opens is not known here.
            clay_to_loops: Arc::new(ClayToLoopsSecret { api_key, tokens, account: KeyAccount::known(loops_account) }),
        })
    }

    /// What stands at the end of a direction.
    fn destination(&self, direction: Direction) -> DestinationKind {
        let (is_simulated, is_closed) = match direction {
            Direction::LoopsToClay => {
                let is_closed = self.loops_to_clay.routes.iter().all(|route| route.webhooks.is_empty());
                (self.loops_to_clay.account.is_simulated(), is_closed)
            }
            Direction::ClayToLoops => {
                (self.clay_to_loops.account.id.is_simulated(), self.clay_to_loops.api_key.is_none())
            }
        };
        match (is_simulated, is_closed) {
            (true, _) => DestinationKind::Simulated,
            (false, true) => DestinationKind::Closed,
            (false, false) => DestinationKind::Real,
        }
    }
}

/// Why a changed secrets file is not used.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    SecretsFile(#[from] SecretsFileError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<SettingError>),
}

/// Reader of the secrets file, and what it read last.
struct SecretsFileWatcher {
    data_dir: DataDir,
    environment: BTreeMap<String, String>,
    simulated: SimulatedDestinations,
    /// Settings that come from the file, or have done since the start.
    stored_names: Vec<&'static str>,
    last_version: Option<FileVersion>,
    unusable: Option<UnusableFile>,
}

/// A secrets file that cannot be used now.
struct UnusableFile {
    reported_at: Instant,
    is_closed: bool,
}

/// Inode, length and modification time: at least one changes when the file is replaced.
type FileVersion = (u64, u64, Option<SystemTime>);

impl SecretsFileWatcher {
    /// Returns the secrets that are to be used from now on, or nothing if they are the same as at the last call. The first call
    /// always reads the file.
    fn reload_if_changed(&mut self, now: Instant) -> Option<Secrets> {
        let metadata = fs::metadata(self.data_dir.path().join(SECRETS_FILE)).ok();
        let version = metadata.map(|metadata| (metadata.ino(), metadata.len(), metadata.modified().ok()));
        if version == self.last_version && self.unusable.is_none() {
            return None;
        }
        self.last_version = version;
        let mut variables = self.environment.clone();
        let loaded = merge_into_env(&mut variables)
            .map_err(ReloadError::from)
            .and_then(|stored_names| self.load(variables, &stored_names));
        match loaded {
            Ok(secrets) => {
                self.unusable = None;
                Some(secrets)
            }
            // Read again at every call until it can be used.
            Err(error) => self.report_unusable(&error, now),
        }
    }

    /// Reports a file that cannot be used, and returns closed secrets when it is time to end what it had.
    fn report_unusable(&mut self, error: &ReloadError, now: Instant) -> Option<Secrets> {
        let Some(unusable) = &mut self.unusable else {
            self.unusable = Some(UnusableFile { reported_at: now, is_closed: false });
            warn!(%error, "what is stored in the data folder cannot be used: in a minute, what it opened is closed");
            return None;
        };
        if now.duration_since(unusable.reported_at) < UNUSABLE_FILE_GRACE {
            return None;
        }
        unusable.reported_at = now;
        let was_closed = std::mem::replace(&mut unusable.is_closed, true);
        error!(%error, "what is stored in the data folder cannot be used: what it opened is closed until it can");
        if was_closed { None } else { self.load(self.environment.clone(), &[]).ok() }
    }

    /// Reads the settings, of which these names come from the file. One that the file had is empty, and so closed, when it is
    /// there no more: a real destination does not become a simulated one while the relay runs, and no secret a generated one.
    fn load(
        &mut self,
        mut variables: BTreeMap<String, String>,
        stored_names: &[&'static str],
    ) -> Result<Secrets, ReloadError> {
        for name in self.stored_names.iter().filter(|name| !stored_names.contains(name)) {
            variables.insert((*name).to_owned(), String::new());
        }
        let mut settings = LocalSettings::from_env(&variables).map_err(ReloadError::Settings)?;
        if !self.simulated.on_request {
            settings.close_half_configured();
        }
        let secrets = Secrets::from_settings(&settings, &self.data_dir, &self.simulated)?;
        let is_new = |name: &&str| stored_names.contains(name) && !self.stored_names.contains(name);
        if self.simulated.loops && is_new(&LOOPS_API_KEY) {
            warn!("{LOOPS_API_KEY} is stored, but Loops is simulated until the relay is started again");
        }
        self.stored_names.extend(stored_names);
        self.stored_names.sort_unstable();
        self.stored_names.dedup();
        Ok(secrets)
    }
}

/// The secrets in use, shared by all parts of a relay.
#[derive(Clone)]
pub struct ReloadingSecrets(Arc<Shared>);

struct Shared {
    active: RwLock<Secrets>,
    watcher: Option<Mutex<SecretsFileWatcher>>,
    reloads: watch::Sender<()>,
}

impl std::fmt::Debug for ReloadingSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReloadingSecrets")
    }
}

/// Makes what is held due, however long the store takes.
pub(crate) async fn release_all_held(store: SqliteStore) {
    while let Err(error) = store.release_all_held().await {
        error!(%error, "what is held cannot be freed yet");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Secrets that do not change.
impl From<Secrets> for ReloadingSecrets {
    fn from(secrets: Secrets) -> Self {
        Self::new(secrets, None)
    }
}

impl ReloadingSecrets {
    fn new(secrets: Secrets, watcher: Option<SecretsFileWatcher>) -> Self {
        let (active, watcher) = (RwLock::new(secrets), watcher.map(Mutex::new));
        Self(Arc::new(Shared { active, watcher, reloads: watch::Sender::new(()) }))
    }

    /// The secrets of these settings, until the secrets file changes. `environment` does not include the file's settings.
    pub(crate) fn load(
        settings: &LocalSettings,
        environment: BTreeMap<String, String>,
        data_dir: DataDir,
        simulated: SimulatedDestinations,
    ) -> Result<Self, DataDirError> {
        let initial = Secrets::from_settings(settings, &data_dir, &simulated)?;
        let stored_names = settings.stored_names.clone();
        let mut watcher =
            SecretsFileWatcher { data_dir, environment, simulated, stored_names, last_version: None, unusable: None };
        // The file may have changed since the settings were read.
        let secrets = watcher.reload_if_changed(Instant::now()).unwrap_or(initial);
        Ok(Self::new(secrets, Some(watcher)))
    }

    /// Checks the secrets file again and again, and releases held deliveries after each change. Never returns.
    pub(crate) async fn run(self, store: SqliteStore) {
        let mut reloads = self.0.reloads.subscribe();
        loop {
            tokio::select! {
                _ = reloads.changed() => {
                    info!("what was stored in the data folder is in use; what is held is tried now");
                    if let Err(error) = self.record_destinations(&store).await {
                        error!(%error, "the destinations in use cannot be recorded");
                    }
                    release_all_held(store.clone()).await;
                }
                () = tokio::time::sleep(POLL_INTERVAL) => self.poll().await,
            }
        }
    }

    /// What stands at the end of a direction now.
    pub(crate) fn destination(&self, direction: Direction) -> DestinationKind {
        self.0.active.read().unwrap_or_else(PoisonError::into_inner).destination(direction)
    }

    /// Records in the store which destinations are served.
    pub(crate) async fn record_destinations(&self, store: &SqliteStore) -> Result<(), StoreError> {
        let served = Direction::ALL.map(|direction| (direction, self.destination(direction)));
        let serve = |accounts: &mut ServedAccounts| {
            served.into_iter().for_each(|(direction, destination)| accounts.serve(direction, destination));
        };
        update_accounts(store, || store.clock().new_id(), serve).await
    }

    async fn poll(&self) {
        if self.0.watcher.is_none() {
            return;
        }
        let shared = Arc::clone(&self.0);
        let reload = move || {
            let mut watcher = shared.watcher.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
            let secrets = watcher.reload_if_changed(Instant::now())?;
            *shared.active.write().unwrap_or_else(PoisonError::into_inner) = secrets;
            shared.reloads.send_replace(());
            Some(())
        };
        // A poll that panics has changed nothing.
        let _ = tokio::task::spawn_blocking(reload).await;
    }
}

impl AsRef<Arc<LoopsToClaySecret>> for Secrets {
    fn as_ref(&self) -> &Arc<LoopsToClaySecret> {
        &self.loops_to_clay
    }
}

impl AsRef<Arc<ClayToLoopsSecret>> for Secrets {
    fn as_ref(&self) -> &Arc<ClayToLoopsSecret> {
        &self.clay_to_loops
    }
}

impl<T: Send + Sync> SecretSource<T> for ReloadingSecrets
where
    Secrets: AsRef<Arc<T>>,
{
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        Ok(Arc::clone(self.0.active.read().unwrap_or_else(PoisonError::into_inner).as_ref()))
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        self.poll().await;
        self.current().await
    }

    fn describe_field(&self, field: SecretField) -> String {
        let setting_name = match field {
            SecretField::SigningSecrets => LOOPS_SIGNING_SECRET,
            SecretField::ClayRoutes => CLAY_WEBHOOK_URL,
            SecretField::LoopsApiKey => LOOPS_API_KEY,
            SecretField::RelayTokens => RELAY_TOKEN,
        };
        setting_name.to_owned()
    }
}

#[cfg(test)]
mod tests;
