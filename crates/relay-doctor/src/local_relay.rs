//! A `relay-local`, by its data folder, with the settings that it has if it is started from this terminal.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use relay::config::names::{RELAY_DATA, RELAY_LISTEN};
use relay::routes::{CONTACT_PATH, EVENT_PATH, WEBHOOK_PATH};
use relay_sqlite::data_dir::config::{LocalSettings, loopback_address};
use relay_sqlite::data_dir::secrets_file::{ALLOWED_KEYS, SECRETS_FILE, SecretsFile, merge_into_env};
use relay_sqlite::data_dir::{DataDir, DataDirError};

use crate::local_error::LocalError;
use crate::urls::EndpointUrls;

/// A relay on this machine.
#[derive(Debug)]
pub struct LocalRelay {
    /// Its folder.
    pub data_dir: DataDir,
    /// Settings of the environment, and those stored in the folder.
    pub settings: LocalSettings,
    /// The relayed events, as they are written.
    pub events: Vec<String>,
    /// Settings of the environment that win over stored ones.
    pub env_overrides: Vec<&'static str>,
}

impl LocalRelay {
    /// Reads the settings of the relay of this folder.
    pub fn open(data_dir: DataDir) -> Result<Self, LocalError> {
        Self::load(data_dir, &[])
    }

    /// Reads the settings without stored ones that are invalid, because `setup` will replace them.
    pub fn load_for_repair(data_dir: DataDir) -> Result<Self, LocalError> {
        Self::load(data_dir, &ALLOWED_KEYS)
    }

    fn load(data_dir: DataDir, repaired_keys: &[&str]) -> Result<Self, LocalError> {
        let mut variables: BTreeMap<String, String> = relay::config::env::environment();
        let env_overrides = ALLOWED_KEYS.into_iter().filter(|name| variables.contains_key(*name)).collect();
        variables.insert(RELAY_DATA.to_owned(), data_dir.path().display().to_string());
        let stored_keys = merge_into_env(&mut variables)?;
        if let Err(errors) = LocalSettings::from_env(&variables)
            && errors.iter().any(|error| repaired_keys.contains(&error.name) && stored_keys.contains(&error.name))
        {
            // All stored settings go, because URLs and tokens belong together. `setup` reads the file by itself.
            variables.retain(|name, _| !stored_keys.contains(&name.as_str()));
        }
        let mut settings = LocalSettings::from_env(&variables).map_err(|errors| match errors.into_iter().next() {
            Some(error) if stored_keys.contains(&error.name) => {
                LocalError::InvalidStoredSetting { path: data_dir.path().join(SECRETS_FILE), error }
            }
            Some(error) => LocalError::Setting(error),
            None => LocalError::NotADataDir(data_dir.path().to_owned()),
        })?;
        let events = variables.get("RELAYED_EVENTS").map_or("contact.created", String::as_str);
        let events = events.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let is_listen_set = variables.get(RELAY_LISTEN).is_some_and(|address| !address.is_empty());
        // An address that a stopped relay has left does not count.
        if let Some(address) = data_dir.read_address()?.filter(|_| !is_listen_set)
            && data_dir.is_in_use()
        {
            settings.listen = address;
        }
        Ok(Self { data_dir, settings, events, env_overrides })
    }

    /// Returns what is pasted into Loops and Clay.
    pub fn urls(&self) -> EndpointUrls {
        let url = |path: &str| format!("{}{path}", self.base_url());
        EndpointUrls {
            loops_webhook_url: url(WEBHOOK_PATH),
            events: self.events.clone(),
            clay_contact_url: url(CONTACT_PATH),
            clay_event_url: url(EVENT_PATH),
        }
    }

    /// Returns the settings that are stored in the folder.
    pub fn stored_settings(&self) -> Result<SecretsFile, LocalError> {
        Ok(SecretsFile::load(self.data_dir.path())?)
    }

    /// Returns the URL by which it is reached from this machine.
    pub fn base_url(&self) -> String {
        format!("http://{}", loopback_address(self.settings.listen))
    }

    /// Whether it listens on a public address.
    pub fn is_public(&self) -> bool {
        match self.settings.listen.ip() {
            IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_private() || ip.is_link_local()),
            IpAddr::V6(ip) => {
                !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
            }
        }
    }

    /// Whether a relay runs on the folder, be it this process.
    pub fn is_running(&self) -> bool {
        self.data_dir.is_in_use()
    }

    /// Creates a folder, for its owner alone, unless it exists.
    pub fn create_data_dir(path: PathBuf) -> Result<DataDir, LocalError> {
        let data_dir = DataDir::new(path);
        // Taking its lock creates the folder.
        match data_dir.lock() {
            Ok(lock) => lock.release(),
            Err(DataDirError::InUse(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(data_dir)
    }
}
