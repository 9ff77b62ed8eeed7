//! A `relay-local`, by its data folder: the settings that it has when it is started from this terminal.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use relay::config::names::{RELAY_DATA, RELAY_LISTEN};
use relay_sqlite::data_dir::config::LocalSettings;
use relay_sqlite::data_dir::secrets_file::{ALLOWED_KEYS, STORED_SETTINGS_FILE, merge_into_env};
use relay_sqlite::data_dir::{DataDir, DataDirError};

use crate::error::Error;
use crate::setup::secret_store::SecretStoreError;

/// A relay on this machine.
#[derive(Debug)]
pub struct LocalRelay {
    /// Its folder.
    pub folder: DataDir,
    /// Its settings: the environment's, and what is stored in the folder.
    pub settings: LocalSettings,
    /// Which events it relays, as they are written.
    pub events: Vec<String>,
    /// Those settings of the environment that could be stored in the folder: they win.
    pub environment: Vec<&'static str>,
}

impl LocalRelay {
    /// Reads the settings of the relay of this folder.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn read(folder: DataDir) -> Result<Self, Error> {
        Self::load(folder, &[])
    }

    /// The same, but what is stored and of no use is not read: something else is to be put in its place.
    ///
    /// # Errors
    /// When a setting of the environment is wrong.
    pub fn load_for_repair(folder: DataDir) -> Result<Self, Error> {
        Self::load(folder, &ALLOWED_KEYS)
    }

    fn load(folder: DataDir, mended: &[&str]) -> Result<Self, Error> {
        let mut variables: BTreeMap<String, String> = relay_aws::sdk::clients::environment();
        let environment = ALLOWED_KEYS.into_iter().filter(|name| variables.contains_key(*name)).collect();
        variables.insert(RELAY_DATA.to_owned(), folder.path().display().to_string());
        let stored = merge_into_env(&mut variables)?;
        if let Err(faults) = LocalSettings::read(&variables)
            && faults.iter().any(|error| mended.contains(&error.name) && stored.contains(&error.name))
        {
            // All of it, because URLs and tokens go together; setup reads the file by itself.
            variables.retain(|name, _| !stored.contains(&name.as_str()));
        }
        let mut settings = LocalSettings::read(&variables).map_err(|faults| match faults.into_iter().next() {
            Some(error) if stored.contains(&error.name) => SecretStoreError::StoredSetting {
                path: folder.path().join(STORED_SETTINGS_FILE).display().to_string(),
                error,
            }
            .into(),
            Some(error) => Error::Setting(error),
            None => Error::NotADataDir { folder: folder.path().display().to_string() },
        })?;
        let events = variables.get("RELAYED_EVENTS").map_or("contact.created", String::as_str);
        let events = events.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let is_told = variables.get(RELAY_LISTEN).is_some_and(|address| !address.is_empty());
        // What a relay has left that runs no more says nothing.
        if let Some(address) = folder.read_address()?.filter(|_| !is_told)
            && is_locked(&folder)?
        {
            settings.listen = address;
        }
        Ok(Self { folder, settings, events, environment })
    }

    /// Where it listens, as `http://…`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", relay_local::startup_banner::loopback_address(self.settings.listen))
    }

    /// Whether it listens on an address that others than this machine and its own network may reach.
    #[must_use]
    pub fn is_public(&self) -> bool {
        match self.settings.listen.ip() {
            IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_private() || ip.is_link_local()),
            IpAddr::V6(ip) => {
                !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
            }
        }
    }

    /// Whether a relay is running on the folder.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn is_running(&self) -> Result<bool, Error> {
        is_locked(&self.folder)
    }

    /// A folder that is made where there is none, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_data_dir(folder: PathBuf) -> Result<DataDir, Error> {
        let folder = DataDir::new(folder);
        match folder.lock() {
            Ok(lock) => lock.release(),
            Err(DataDirError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(folder)
    }
}

/// Whether a relay has the folder.
fn is_locked(folder: &DataDir) -> Result<bool, Error> {
    match folder.lock() {
        Ok(lock) => {
            lock.release();
            Ok(false)
        }
        Err(DataDirError::InUse { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
