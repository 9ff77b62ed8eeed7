//! The data folder: the store, the generated keys, and the lock that keeps a second relay out.

pub mod config;
pub mod secrets_file;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The file with the generated signing secret.
const SIGNING_SECRET_FILE: &str = "signing-secret";
/// The file with the generated relay token.
const RELAY_TOKEN_FILE: &str = "relay-token";
/// The file with the key under which contacts are hashed in the log.
const CONTACT_HASH_KEY_FILE: &str = "contact-hash-key";
/// The file with the address that the running relay listens on.
const ADDRESS_FILE: &str = "address";
/// The file whose lock the running relay holds.
const LOCK_FILE: &str = "lock";

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.parts().0, self.parts().1)]
pub enum DataDirError {
    /// A file cannot be read or written there.
    Unwritable {
        /// Path of the folder.
        path: String,
        /// Message of the system.
        detail: String,
    },
    /// Another relay is running on it.
    InUse {
        /// Path of the folder.
        path: String,
    },
}

impl DataDirError {
    /// Returns what happened, and what to do about it.
    #[must_use]
    pub fn parts(&self) -> (String, String) {
        let (problem, remedy) = match self {
            Self::Unwritable { path, detail } => (
                format!("the data folder {path} cannot be written ({detail})"),
                "check its permissions, or set RELAY_DATA to another folder",
            ),
            Self::InUse { path } => (
                format!("the data folder {path} is in use by another relay-local"),
                "stop that one, or set RELAY_DATA to another folder",
            ),
        };
        (problem, remedy.to_owned())
    }
}

/// A data folder.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

/// The right to run a relay on a folder, for as long as it is kept.
#[derive(Debug)]
pub struct DataDirLock(File);

impl DataDirLock {
    /// Gives the folder back.
    pub fn release(self) {
        // The lock goes with the file; there is nothing to be done about a failure.
        let _ = self.0.unlock();
    }
}

impl DataDir {
    /// The folder at this path; it need not exist.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder where there is none, for its owner alone, and takes it for one relay.
    ///
    /// # Errors
    /// When nothing can be written there, or another relay has it.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        let unwritable = |error: io::Error| self.unwritable(&error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(unwritable)?;
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.join(LOCK_FILE))
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => Ok(DataDirLock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse { path: self.path.display().to_string() }),
            Err(fs::TryLockError::Error(error)) => Err(self.unwritable(&error)),
        }
    }

    /// Returns whether a relay is using the folder.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        match File::open(self.path.join(LOCK_FILE)) {
            Ok(file) => matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }

    /// The generated signing secret, made once and kept.
    ///
    /// # Errors
    /// When it can be neither read nor written.
    pub fn signing_secret(&self) -> Result<String, DataDirError> {
        self.read_or_generate(SIGNING_SECRET_FILE, || format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>())))
    }

    /// The generated relay token, made once and kept.
    ///
    /// # Errors
    /// When it can be neither read nor written.
    pub fn relay_token(&self) -> Result<String, DataDirError> {
        self.read_or_generate(RELAY_TOKEN_FILE, || format!("relay_{}", hex::encode(rand::random::<[u8; 24]>())))
    }

    /// The relay token, if one was generated; nothing is made.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn existing_relay_token(&self) -> Result<Option<String>, DataDirError> {
        self.read(RELAY_TOKEN_FILE)
    }

    /// The generated key under which contacts are hashed for the log and for listings, made once and kept.
    ///
    /// # Errors
    /// When it can be neither read nor written.
    pub fn contact_hash_key(&self) -> Result<String, DataDirError> {
        self.read_or_generate(CONTACT_HASH_KEY_FILE, || hex::encode(rand::random::<[u8; 16]>()))
    }

    /// Leaves the address that the relay listens on, for programs that look for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_address(&self, address: SocketAddr) -> Result<(), DataDirError> {
        self.write(ADDRESS_FILE, &address.to_string())
    }

    /// The address that the relay listens on which runs on the folder, or listened on which ran there last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_address(&self) -> Result<Option<SocketAddr>, DataDirError> {
        Ok(self.read(ADDRESS_FILE)?.and_then(|address| address.parse().ok()))
    }

    fn read_or_generate(&self, name: &str, generate: impl FnOnce() -> String) -> Result<String, DataDirError> {
        if let Some(existing) = self.read(name)? {
            return Ok(existing);
        }
        let value = generate();
        self.write(name, &value)?;
        Ok(value)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let replace_file = || -> io::Result<()> {
            let temporary = self.path.join(format!("{name}.new"));
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(temporary, path)
        };
        replace_file().map_err(|error| self.unwritable(&error))
    }

    fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        match fs::read_to_string(self.path.join(name)) {
            Ok(kept) => Ok(Some(kept.trim().to_owned()).filter(|read| !read.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unwritable(&error)),
        }
    }

    fn unwritable(&self, error: &io::Error) -> DataDirError {
        DataDirError::Unwritable { path: self.path.display().to_string(), detail: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn data_dir() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(parent.path().join("deep/.relay"));
        (parent, data_dir)
    }

    #[test]
    fn generated_keys_are_persisted_with_mode_0600() {
        let (_parent, folder) = data_dir();
        let _lock = folder.lock().unwrap();
        let token = folder.relay_token().unwrap();
        assert_eq!(folder.relay_token().unwrap(), token);
        assert_ne!(folder.signing_secret().unwrap(), token);
        let mode = fs::metadata(folder.path().join(RELAY_TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn second_lock_fails_until_the_first_is_released() {
        let (_parent, folder) = data_dir();
        let first = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(DataDirError::InUse { .. })));
        first.release();
        assert!(folder.lock().is_ok());
    }

    #[test]
    fn file_at_data_dir_path_is_unwritable_error() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(matches!(DataDir::new(path).lock(), Err(DataDirError::Unwritable { .. })));
    }
}
