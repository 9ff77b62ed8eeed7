//! The secrets of a running relay. What `relayctl setup --local` stores is taken up without a restart: when a secret does not
//! work, and otherwise within a second; and what is held is tried at once then.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use relay::config::env::SettingError;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretError, SecretField, SecretSource};
use relay_core::secret::{RelayTokens, SecretString};
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::signature::SigningSecret;
use tokio::sync::watch;
use tracing::{error, info, warn};

use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_TOKEN,
};
use relay_sqlite::SqliteStore;
use relay_sqlite::data_dir::config::{LocalSettings, Setting};
use relay_sqlite::data_dir::secrets_file::{SECRETS_FILE, SecretsFileError, merge_into_env};
use relay_sqlite::data_dir::{DataDir, DataDirError};

/// The name of the one route that the settings describe.
const DEFAULT_ROUTE_NAME: &str = "default";
/// The key of the simulated Loops.
pub const SIMULATED_API_KEY: &str = "simulated";
/// How often the file is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What the two directions need to know.
#[derive(Debug)]
pub struct Secrets {
    /// Signing secrets and routes.
    pub loops_to_clay: LoopsToClaySecret,
    /// Loops key and relay tokens.
    pub clay_to_loops: ClayToLoopsSecret,
}

/// Which ends are simulated, from the start to the end of the process.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDestinations {
    /// The URL of the simulated Clay's webhook.
    pub clay: Option<String>,
    /// Whether Loops is simulated.
    pub loops: bool,
}

impl Secrets {
    /// What the settings, the folder and the simulated ends come to.
    ///
    /// # Errors
    /// When what the folder generates can be neither read nor written.
    pub fn from_settings(
        settings: &LocalSettings,
        data_dir: &DataDir,
        simulated: &SimulatedDestinations,
    ) -> Result<Self, DataDirError> {
        let signing_secrets = match &settings.signing_secrets {
            Setting::Set(secrets) => secrets.clone(),
            Setting::Unset => SigningSecret::parse(&data_dir.signing_secret()?).into_iter().collect(),
        };
        let webhooks = match (&settings.clay_webhooks, &simulated.clay) {
            (Setting::Set(webhooks), _) => webhooks.clone(),
            (Setting::Unset, Some(url)) => {
                ClayWebhook::new(url, settings.simulated_clay_token.as_deref()).into_iter().collect()
            }
            (Setting::Unset, None) => Vec::new(),
        };
        let api_key = match &settings.loops_api_key {
            Setting::Set(key) if !simulated.loops => key.clone(),
            _ => Some(SecretString::from(SIMULATED_API_KEY)),
        };
        let tokens = match &settings.relay_tokens {
            Setting::Set(tokens) => RelayTokens::new(tokens),
            Setting::Unset => RelayTokens::new([data_dir.relay_token()?]),
        };
        let events = settings.shared.relayed_events.clone();
        let routes = vec![ClayRoute { name: DEFAULT_ROUTE_NAME.to_owned(), events, webhooks }];
        Ok(Self {
            loops_to_clay: LoopsToClaySecret { signing_secrets, routes },
            clay_to_loops: ClayToLoopsSecret { api_key, tokens },
        })
    }
}

/// Why what is stored is not taken up.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    SecretsFile(#[from] SecretsFileError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{0}")]
    Setting(SettingError),
    #[error("{0} was taken out of it, which counts from the next start on: restart the relay, or store it again")]
    Removed(&'static str),
}

/// Where secrets are stored while the relay runs, and what they were when they were read last.
#[derive(Debug)]
pub struct SecretsFileWatcher {
    data_dir: DataDir,
    environment: BTreeMap<String, String>,
    simulated: SimulatedDestinations,
    /// The settings that were stored.
    stored_names: Vec<&'static str>,
    last_version: Option<FileVersion>,
}

/// By what a file that was replaced is told from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    inode: u64,
    length: u64,
    modified_at: (i64, i64),
}

impl SecretsFileWatcher {
    /// What is stored in a folder beside this environment, where `names` were stored at the start.
    #[must_use]
    pub const fn new(
        data_dir: DataDir,
        environment: BTreeMap<String, String>,
        simulated: SimulatedDestinations,
        stored_names: Vec<&'static str>,
    ) -> Self {
        Self { data_dir, environment, simulated, stored_names, last_version: None }
    }

    /// What is stored now, where that has changed since this was asked last, and can be used; the first time, what is there.
    pub fn reload_if_changed(&mut self) -> Option<Secrets> {
        let version = file_version(&self.data_dir.path().join(SECRETS_FILE));
        if version == self.last_version {
            return None;
        }
        self.last_version = version;
        match self.load() {
            Ok(secrets) => Some(secrets),
            Err(error) => {
                warn!(%error, "what is stored in the data folder is not taken up: what was known serves on");
                None
            }
        }
    }

    fn load(&mut self) -> Result<Secrets, ReloadError> {
        let mut variables = self.environment.clone();
        let stored_names = merge_into_env(&mut variables)?;
        // An end that is real does not become a simulated one under way, and no secret a generated one.
        if let Some(removed) =
            self.stored_names.iter().find(|name| **name != CLAY_WEBHOOK_AUTH_TOKEN && !stored_names.contains(name))
        {
            return Err(ReloadError::Removed(removed));
        }
        let settings = LocalSettings::from_env(&variables).map_err(|errors| match errors.into_iter().next() {
            Some(error) => ReloadError::Setting(error),
            None => ReloadError::Removed(RELAY_TOKEN),
        })?;
        let secrets = Secrets::from_settings(&settings, &self.data_dir, &self.simulated)?;
        if self.simulated.loops && stored_names.contains(&LOOPS_API_KEY) && !self.stored_names.contains(&LOOPS_API_KEY)
        {
            warn!("{LOOPS_API_KEY} is stored, but Loops is simulated until the relay is started again");
        }
        self.stored_names = stored_names;
        Ok(secrets)
    }
}

fn file_version(path: &Path) -> Option<FileVersion> {
    let metadata = fs::metadata(path).ok()?;
    let modified_at = (metadata.mtime(), metadata.mtime_nsec());
    Some(FileVersion { inode: metadata.ino(), length: metadata.len(), modified_at })
}

/// The secrets as they are used now.
#[derive(Clone)]
pub struct ReloadingSecrets(Arc<Shared>);

struct Shared {
    active: RwLock<ActiveSecrets>,
    watcher: Option<Mutex<SecretsFileWatcher>>,
    /// How often they have changed.
    change_count: watch::Sender<u64>,
}

struct ActiveSecrets {
    loops_to_clay: Arc<LoopsToClaySecret>,
    clay_to_loops: Arc<ClayToLoopsSecret>,
}

impl std::fmt::Debug for ReloadingSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptSecrets")
    }
}

impl From<Secrets> for ActiveSecrets {
    fn from(secrets: Secrets) -> Self {
        Self { loops_to_clay: Arc::new(secrets.loops_to_clay), clay_to_loops: Arc::new(secrets.clay_to_loops) }
    }
}

/// Keys that do not change.
impl From<Secrets> for ReloadingSecrets {
    fn from(secrets: Secrets) -> Self {
        Self::new(secrets, None)
    }
}

impl ReloadingSecrets {
    /// These, until something else is stored.
    #[must_use]
    pub fn new(secrets: Secrets, watcher: Option<SecretsFileWatcher>) -> Self {
        let active = RwLock::new(ActiveSecrets::from(secrets));
        Self(Arc::new(Shared { active, watcher: watcher.map(Mutex::new), change_count: watch::Sender::new(0) }))
    }

    /// Takes up what is stored, again and again, and lets what is held be tried when that has changed. It does not end.
    pub async fn run(self, store: SqliteStore) {
        let mut changes = self.0.change_count.subscribe();
        loop {
            tokio::select! {
                _ = changes.changed() => {
                    info!("what was stored in the data folder is in use; what is held is tried now");
                    while let Err(error) = store.release_all_held().await {
                        error!(%error, "what is held cannot be freed yet");
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                }
                () = tokio::time::sleep(POLL_INTERVAL) => self.poll().await,
            }
        }
    }

    /// Takes up what is stored, if that has changed.
    async fn poll(&self) {
        if self.0.watcher.is_none() {
            return;
        }
        let shared = Arc::clone(&self.0);
        // A look that panics has changed nothing.
        let _ = tokio::task::spawn_blocking(move || shared.poll()).await;
    }
}

impl Shared {
    fn poll(&self) {
        let Some(watcher) = &self.watcher else { return };
        let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secrets) = watcher.reload_if_changed() {
            *self.active.write().unwrap_or_else(PoisonError::into_inner) = ActiveSecrets::from(secrets);
            self.change_count.send_modify(|count| *count += 1);
        }
    }
}

/// What is read of the secrets in use.
trait SecretPart: Send + Sync + Sized {
    fn from_active(active: &ActiveSecrets) -> &Arc<Self>;
}

impl SecretPart for LoopsToClaySecret {
    fn from_active(active: &ActiveSecrets) -> &Arc<Self> {
        &active.loops_to_clay
    }
}

impl SecretPart for ClayToLoopsSecret {
    fn from_active(active: &ActiveSecrets) -> &Arc<Self> {
        &active.clay_to_loops
    }
}

impl<T: SecretPart> SecretSource<T> for ReloadingSecrets {
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        Ok(Arc::clone(T::from_active(&self.0.active.read().unwrap_or_else(PoisonError::into_inner))))
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        self.poll().await;
        self.current().await
    }

    fn describe_field(&self, field: SecretField) -> String {
        setting_name(field).to_owned()
    }
}

const fn setting_name(field: SecretField) -> &'static str {
    match field {
        SecretField::SigningSecrets => LOOPS_SIGNING_SECRET,
        SecretField::ClayRoutes => CLAY_WEBHOOK_URL,
        SecretField::LoopsApiKey => LOOPS_API_KEY,
        SecretField::RelayTokens => RELAY_TOKEN,
    }
}
