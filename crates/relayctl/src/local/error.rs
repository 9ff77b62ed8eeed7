//! Errors of a relay on this machine: its data folder, its settings, its store.

use std::path::PathBuf;

use relay::config::env::SettingError;
use relay_sqlite::admin;
use relay_sqlite::data_dir::DataDirError;
use relay_sqlite::data_dir::secrets_file::SecretsFileError;

use crate::exit::ExitStatus;
use crate::explain::{Explain, Explanation, explain};
use crate::invocation::suggest;

/// Why a data folder, or what is in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explain())]
pub(crate) enum Error {
    /// The folder does not exist, or has no store.
    NotADataDir(PathBuf),
    #[error("{0}; correct it in this terminal, which relay-local reads it from too")]
    Setting(#[from] SettingError),
    /// A setting that is stored in the folder is wrong.
    InvalidStoredSetting {
        path: PathBuf,
        error: SettingError,
    },
    DataDir(#[from] DataDirError),
    SecretsFile(#[from] SecretsFileError),
    Store(#[from] admin::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        let unavailable = |(problem, remedy)| Explanation { exit_status: ExitStatus::Unavailable, problem, remedy };
        match self {
            Self::NotADataDir(dir) | Self::Store(admin::Error::NoStore(dir)) => {
                let dir = dir.display();
                explain!(
                    Unavailable,
                    "{dir} is not a data folder of relay-local",
                    "start the relay first, or give --local=FOLDER"
                )
            }
            Self::Setting(error) => {
                explain!(Usage, "{error}", "correct it in this terminal, which relay-local reads it from too")
            }
            Self::InvalidStoredSetting { path, error } => {
                let (path, force) = (path.display(), suggest("setup --force"));
                explain!(Unavailable, "{error}; it is kept in {path}", "put another in its place with {force}")
            }
            Self::DataDir(error) => unavailable(error.parts()),
            Self::SecretsFile(error) => unavailable(error.parts()),
            Self::Store(admin::Error::Open(error)) => unavailable(error.parts()),
            Self::Store(admin::Error::Database(error)) => {
                explain!(Unavailable, "the store in the data folder cannot be used ({error})", "try again")
            }
        }
    }
}
