//! Errors of a relay on this machine: its data folder, its settings, its store.

use std::fmt;
use std::path::PathBuf;

use relay::config::env::SettingError;
use relay_sqlite::admin;
use relay_sqlite::data_dir::DataDirError;
use relay_sqlite::data_dir::secrets_file::SecretsFileError;

use crate::check::Check;
use crate::finding::{Finding, Severity};
use crate::invocation::suggest;

/// Why a data folder, or what is in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The folder does not exist, or has no store.
    NotADataDir(PathBuf),
    /// A setting of the environment is wrong.
    Setting(#[from] SettingError),
    /// A setting that is stored in the folder is wrong.
    InvalidStoredSetting {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: SettingError,
    },
    /// The folder, or a file of it, cannot be used.
    DataDir(#[from] DataDirError),
    /// The file of stored settings cannot be used.
    SecretsFile(#[from] SecretsFileError),
    /// The store cannot be used.
    Store(#[from] admin::Error),
}

impl LocalError {
    /// Returns the problem, and what to do about it.
    pub fn parts(&self) -> (String, String) {
        match self {
            Self::NotADataDir(dir) | Self::Store(admin::Error::NoStore(dir)) => (
                format!("{} is not a data folder of relay-local", dir.display()),
                "start the relay first, or give --local=FOLDER".to_owned(),
            ),
            Self::Setting(error) => {
                (error.to_string(), "correct it in this terminal, which relay-local reads it from too".to_owned())
            }
            Self::InvalidStoredSetting { path, error } => (
                format!("{error}; it is kept in {}", path.display()),
                format!("put another in its place with {}", suggest("setup --force")),
            ),
            Self::DataDir(error) => error.parts(),
            Self::SecretsFile(error) => error.parts(),
            Self::Store(admin::Error::Open(error)) => error.parts(),
            Self::Store(admin::Error::Database(error)) => {
                (format!("the store in the data folder cannot be used ({error})"), "try again".to_owned())
            }
        }
    }

    /// The finding of a check that meets this error.
    pub fn to_finding(&self, check: Check) -> Finding {
        let (problem, remedy) = self.parts();
        check.problem(Severity::Fail, problem, remedy)
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (problem, remedy) = self.parts();
        write!(f, "{problem}: {remedy}")
    }
}
