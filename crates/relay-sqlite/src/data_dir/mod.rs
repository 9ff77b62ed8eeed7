//! The data folder: generated keys, stored settings, and the lock against a second relay.

pub mod config;
pub mod destinations;
mod permissions;
pub mod secrets_file;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use relay_core::secret::MIN_SECRET_BYTES;
use tempfile::NamedTempFile;

pub use self::permissions::Distrust;
use self::secrets_file::SECRETS_FILE;

/// Name of the store.
pub const STORE_FILE: &str = "relay.db";
const SIGNING_SECRET_FILE: &str = "signing-secret";
const RELAY_TOKEN_FILE: &str = "relay-token";
const CONTACT_HASH_KEY_FILE: &str = "contact-hash-key";
const ADDRESS_FILE: &str = "address";
const LOCK_FILE: &str = "lock";
/// The files of a relay that another user must not have written, and must not read. SQLite gives what it puts beside the store
/// the mode of the store.
const PRIVATE_FILES: [&str; 9] = [
    LOCK_FILE,
    SIGNING_SECRET_FILE,
    RELAY_TOKEN_FILE,
    CONTACT_HASH_KEY_FILE,
    ADDRESS_FILE,
    SECRETS_FILE,
    STORE_FILE,
    "relay.db-wal",
    "relay.db-shm",
];

/// Why the data folder cannot be used. Each variant has its path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.parts().0, self.parts().1)]
pub enum DataDirError {
    /// A file cannot be read or written there.
    Unwritable(PathBuf, io::Error),
    /// Another relay is running on it.
    InUse(PathBuf),
    /// This file has a key that can be guessed.
    TooShort(PathBuf),
    /// Another user of the machine could have written to it, or to this file in it.
    Untrusted(PathBuf, Distrust),
}

impl DataDirError {
    /// Returns what happened, and what to do about it.
    pub fn parts(&self) -> (String, String) {
        let (problem, remedy) = match self {
            Self::Unwritable(path, error) => (
                format!("the data folder {} cannot be written ({error})", path.display()),
                "check its permissions, or set RELAY_DATA to another folder",
            ),
            Self::InUse(path) => (
                format!("the data folder {} is in use by another relay-local", path.display()),
                "stop that one, or set RELAY_DATA to another folder",
            ),
            Self::TooShort(path) => (
                format!("{} has fewer than {MIN_SECRET_BYTES} characters, which can be guessed", path.display()),
                "delete it, and the relay generates another",
            ),
            Self::Untrusted(path, distrust) => return distrust.describe(path),
        };
        (problem, remedy.to_owned())
    }
}

/// A data folder.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

/// The lock of the relay that runs on a data folder.
#[derive(Debug)]
pub struct DataDirLock(File);

impl DataDirLock {
    /// Releases the lock.
    pub fn release(self) {
        // The lock goes with the file; there is nothing to be done about a failure.
        let _ = self.0.unlock();
    }
}

impl DataDir {
    /// Returns the data folder at a path, where it need not exist.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder for its owner alone if there is none, and locks it for one relay.
    ///
    /// # Errors
    /// If nothing can be written there, another relay has locked it, or another user could have written there.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        let unwritable = |error| self.unwritable(error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(unwritable)?;
        permissions::check_dir(&self.path, &PRIVATE_FILES)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(self.path.join(LOCK_FILE)).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => Ok(DataDirLock(file)),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(self.path.clone())),
            Err(TryLockError::Error(error)) => Err(self.unwritable(error)),
        }
    }

    /// Closes the files of the folder that other users of the machine can read, and returns their paths.
    pub fn close_files(&self) -> Result<Vec<PathBuf>, DataDirError> {
        permissions::close_files(&self.path, &PRIVATE_FILES).map_err(|error| self.unwritable(error))
    }

    /// Returns whether a relay is running on the folder.
    pub fn is_in_use(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LOCK_FILE)) else { return false };
        matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Returns the signing secret of the folder, which is generated once.
    pub fn signing_secret(&self) -> Result<String, DataDirError> {
        self.read_or_generate(SIGNING_SECRET_FILE, || format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>())))
    }

    /// Returns the relay token of the folder, which is generated once.
    pub fn relay_token(&self) -> Result<String, DataDirError> {
        self.read_or_generate(RELAY_TOKEN_FILE, || format!("relay_{}", hex::encode(rand::random::<[u8; 24]>())))
    }

    /// Returns the relay token of the folder, if one was generated.
    pub fn existing_relay_token(&self) -> Result<Option<String>, DataDirError> {
        self.read(RELAY_TOKEN_FILE)
    }

    /// Returns the key to hash contacts with for logs and listings, which is generated once.
    pub fn contact_hash_key(&self) -> Result<String, DataDirError> {
        self.read_or_generate(CONTACT_HASH_KEY_FILE, || hex::encode(rand::random::<[u8; 16]>()))
    }

    /// Writes the address that the relay listens on, for other programs to find it.
    pub fn write_address(&self, address: SocketAddr) -> Result<(), DataDirError> {
        self.write(ADDRESS_FILE, &address.to_string())
    }

    /// Returns the address of the relay that runs on the folder, or ran there last.
    pub fn read_address(&self) -> Result<Option<SocketAddr>, DataDirError> {
        Ok(self.read(ADDRESS_FILE)?.and_then(|address| address.parse().ok()))
    }

    fn read_or_generate(&self, name: &str, generate: impl FnOnce() -> String) -> Result<String, DataDirError> {
        match self.read(name)? {
            Some(existing) if existing.len() < MIN_SECRET_BYTES => {
                return Err(DataDirError::TooShort(self.path.join(name)));
            }
            Some(existing) => return Ok(existing),
            None => {}
        }
        let value = generate();
        self.write(name, &value)?;
        Ok(value)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), DataDirError> {
        replace_file(&self.path, name, text).map_err(|error| self.unwritable(error))
    }

    fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        match fs::read_to_string(self.path.join(name)) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unwritable(error)),
        }
    }

    fn unwritable(&self, error: io::Error) -> DataDirError {
        DataDirError::Unwritable(self.path.clone(), error)
    }
}

/// Writes a file as a whole or not at all, for its owner alone: a temporary file has mode 0600.
fn replace_file(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(dir.join(name))?;
    Ok(())
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
    fn file_with_a_key_that_can_be_guessed_is_an_error() {
        let (_parent, folder) = data_dir();
        let _lock = folder.lock().unwrap();
        fs::write(folder.path().join(RELAY_TOKEN_FILE), "fifteen-hidden-").unwrap();
        let message = folder.relay_token().unwrap_err().to_string();
        assert!(message.contains("fewer than 16") && !message.contains("hidden"), "{message}");
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
