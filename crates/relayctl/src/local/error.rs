//! Errors of a relay on this machine: its data folder, its settings, its store.

use std::path::PathBuf;

use relay::config::env::SettingError;
use relay_sqlite::admin;
use relay_sqlite::data_dir::DataDirError;
use relay_sqlite::data_dir::secrets_file::SecretsFileError;

use crate::exit::ExitStatus;
use crate::explain::Explain;
use crate::invocation::suggest;

/// Why a data folder, or what is in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.parts().0, self.parts().1)]
pub(crate) enum Error {
    /// The folder does not exist, or has no store.
    NotADataDir(PathBuf),
    /// A setting of the environment is wrong.
    #[error("{0}; correct it in this terminal, which relay-local reads it from too")]
    Setting(#[from] SettingError),
    /// A setting that is stored in the folder is wrong.
    InvalidStoredSetting {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: SettingError,
    },
    /// The folder cannot be written, or is in use.
    DataDir(#[from] DataDirError),
    /// The file of stored settings cannot be used.
    SecretsFile(#[from] SecretsFileError),
    /// The store cannot be used.
    Store(#[from] admin::Error),
}

impl Explain for Error {
    fn parts(&self) -> (String, String) {
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

    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Setting(_) => ExitStatus::Usage,
            Self::NotADataDir(_)
            | Self::InvalidStoredSetting { .. }
            | Self::DataDir(_)
            | Self::SecretsFile(_)
            | Self::Store(_) => ExitStatus::Unavailable,
        }
    }
}
