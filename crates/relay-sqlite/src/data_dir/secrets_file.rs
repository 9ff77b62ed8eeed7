//! Keys and URLs that are kept in the data folder instead of the environment: `relayctl setup --local` writes them.
//!
//! One file, so that a change is whole or not there, for its owner alone. The environment wins: what is set there, even to
//! nothing, is not looked up here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::data_dir::config::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, DEFAULT_DATA, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_DATA,
    RELAY_TOKEN,
};

/// The file: a JSON object of texts.
pub const STORED_SETTINGS_FILE: &str = "secrets.json";
/// What may be in it.
pub const STORED_SETTINGS: [&str; 5] =
    [LOOPS_API_KEY, LOOPS_SIGNING_SECRET, CLAY_WEBHOOK_URL, CLAY_WEBHOOK_AUTH_TOKEN, RELAY_TOKEN];

/// Why what is stored is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoredFault {
    /// It cannot be read.
    #[error("{path} cannot be read ({detail}): check its permissions, or set RELAY_DATA to another folder")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        detail: io::ErrorKind,
    },
    /// It cannot be written.
    #[error("{path} cannot be written ({detail}): check the folder's permissions and the free space")]
    Unwritable {
        /// The file.
        path: String,
        /// What the system says.
        detail: io::ErrorKind,
    },
    /// Somebody else writes, or has written since it was read.
    #[error(
        "another setup is changing {path} at the same time, so nothing was written: let it end, and run this again"
    )]
    Busy {
        /// The file.
        path: String,
    },
    /// It is not what it should be.
    #[error(
        "{path} is not a JSON object of texts: mend it at line {line}, and do not delete it, because the keys that are kept there would be lost"
    )]
    NotSettings {
        /// The file.
        path: String,
        /// Where it breaks.
        line: usize,
    },
    /// It has something that is not kept there.
    #[error("{path} has a name that is not kept there: take it out, and leave {}", STORED_SETTINGS.join(", "))]
    OtherSetting {
        /// The file.
        path: String,
    },
}

/// What is stored: texts by the names of their variables. It does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoredSettings(pub BTreeMap<String, String>);

impl std::fmt::Debug for StoredSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl StoredSettings {
    /// Reads what is stored in a folder; nothing where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(folder: &Path) -> Result<Self, StoredFault> {
        let path = folder.join(STORED_SETTINGS_FILE);
        let shown = path.display().to_string();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound || fault.kind() == io::ErrorKind::NotADirectory => {
                return Ok(Self::default());
            }
            Err(fault) => return Err(StoredFault::Unreadable { path: shown, detail: fault.kind() }),
        };
        let stored: BTreeMap<String, String> = serde_json::from_str(&text)
            .map_err(|fault| StoredFault::NotSettings { path: shown.clone(), line: fault.line() })?;
        if stored.keys().any(|name| !STORED_SETTINGS.contains(&name.as_str())) {
            return Err(StoredFault::OtherSetting { path: shown });
        }
        Ok(Self(stored))
    }

    /// Stores it in place of `known`, as a whole or not at all.
    ///
    /// # Errors
    /// When something else is stored by now, somebody else writes, or it cannot be written; what was stored is still there
    /// then.
    pub fn write_over(&self, known: &Self, folder: &Path) -> Result<(), StoredFault> {
        let path = folder.join(STORED_SETTINGS_FILE);
        let unwritable =
            |fault: io::Error| StoredFault::Unwritable { path: path.display().to_string(), detail: fault.kind() };
        let busy = || StoredFault::Busy { path: path.display().to_string() };
        // The folder's own lock, which goes with the handle: a running relay has that of a file in it.
        let handle = File::open(folder).map_err(unwritable)?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(fault)) => return Err(unwritable(fault)),
        }
        if Self::read(folder)? != *known {
            return Err(busy());
        }
        let write = || -> io::Result<()> {
            let fresh = folder.join(format!("{STORED_SETTINGS_FILE}.new"));
            // One that a killed program has left may have other rights.
            match fs::remove_file(&fresh) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(serde_json::to_string_pretty(&self.0)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(fresh, &path)
        };
        write().map_err(unwritable)
    }
}

/// Fills in what the environment does not set, and tells what that is.
///
/// # Errors
/// When what is stored cannot be used.
pub fn fill_in(variables: &mut BTreeMap<String, String>) -> Result<Vec<&'static str>, StoredFault> {
    let folder = variables.get(RELAY_DATA).map(|text| text.trim()).filter(|text| !text.is_empty());
    let stored = StoredSettings::read(&PathBuf::from(folder.unwrap_or(DEFAULT_DATA)))?;
    // A token belongs to the URLs that it was stored with, and is sent to no other.
    let other_clay = variables.contains_key(CLAY_WEBHOOK_URL);
    let mut filled = Vec::new();
    for name in STORED_SETTINGS {
        let Some(value) = stored.0.get(name) else { continue };
        if !(variables.contains_key(name) || (other_clay && name == CLAY_WEBHOOK_AUTH_TOKEN)) {
            variables.insert(name.to_owned(), value.clone());
            filled.push(name);
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn stored(settings: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        StoredSettings(settings).write_over(&StoredSettings::default(), folder.path()).unwrap();
        folder
    }

    fn variables(folder: &Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([(RELAY_DATA.to_owned(), folder.display().to_string())]);
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fill_in(&mut variables).unwrap();
        variables
    }

    #[test]
    fn what_the_environment_does_not_set_is_filled_in() {
        let folder = stored(&[(LOOPS_API_KEY, "stored"), (RELAY_TOKEN, "t")]);
        assert_eq!(variables(folder.path(), &[])[LOOPS_API_KEY], "stored");
        let set = variables(folder.path(), &[(LOOPS_API_KEY, "")]);
        assert_eq!((set[LOOPS_API_KEY].as_str(), set[RELAY_TOKEN].as_str()), ("", "t"));
    }

    #[test]
    fn a_stored_token_is_not_sent_to_a_url_of_the_environment() {
        let folder = stored(&[(CLAY_WEBHOOK_URL, "https://api.clay.com/a"), (CLAY_WEBHOOK_AUTH_TOKEN, "t")]);
        assert_eq!(variables(folder.path(), &[])[CLAY_WEBHOOK_AUTH_TOKEN], "t");
        let other = variables(folder.path(), &[(CLAY_WEBHOOK_URL, "https://api.clay.com/b")]);
        assert!(!other.contains_key(CLAY_WEBHOOK_AUTH_TOKEN));
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_replaced_as_a_whole() {
        let folder = stored(&[(RELAY_TOKEN, "t")]);
        let path = folder.path().join(STORED_SETTINGS_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let known = StoredSettings::read(folder.path()).unwrap();
        StoredSettings::default().write_over(&known, folder.path()).unwrap();
        assert_eq!(StoredSettings::read(folder.path()).unwrap(), StoredSettings::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_another_writes_or_has_written_is_not_overwritten() {
        let folder = stored(&[(RELAY_TOKEN, "first")]);
        let known = StoredSettings::read(folder.path()).unwrap();
        let second = StoredSettings(BTreeMap::from([(RELAY_TOKEN.to_owned(), "first,second".to_owned())]));
        let third = StoredSettings(BTreeMap::from([(RELAY_TOKEN.to_owned(), "first,third".to_owned())]));
        let held = File::open(folder.path()).unwrap();
        held.lock().unwrap();
        let told = second.write_over(&known, folder.path()).unwrap_err().to_string();
        assert!(told.contains("another setup is changing") && !told.contains("first"), "{told}");
        held.unlock().unwrap();
        second.write_over(&known, folder.path()).unwrap();
        assert!(matches!(third.write_over(&known, folder.path()), Err(StoredFault::Busy { .. })));
        assert_eq!(StoredSettings::read(folder.path()).unwrap(), second);
    }

    #[test]
    fn anything_else_in_its_place_is_told_without_its_content() {
        for text in ["hidden", "[]", r#"{"RELAY_LISTEN": "hidden"}"#, r#"{"RELAY_TOKEN": ["hidden"]}"#] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(STORED_SETTINGS_FILE), text).unwrap();
            let fault = StoredSettings::read(folder.path()).unwrap_err();
            assert!(!fault.to_string().contains("hidden"), "{fault}");
        }
    }

    #[test]
    fn a_file_with_a_slip_is_mended_and_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STORED_SETTINGS_FILE), "{\n\"RELAY_TOKEN\": \"t\",\n}").unwrap();
        let told = StoredSettings::read(folder.path()).unwrap_err().to_string();
        assert!(told.contains("mend it at line 3, and do not delete it") && !told.contains("--local"), "{told}");
        assert!(told.len() <= 300, "{told}");
    }

    #[test]
    fn what_is_stored_does_not_print() {
        let stored = StoredSettings(BTreeMap::from([(RELAY_TOKEN.to_owned(), "hidden".to_owned())]));
        assert!(!format!("{stored:?}").contains("hidden"));
    }
}
