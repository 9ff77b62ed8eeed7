//! The commands beside `serve`.

pub mod deliveries;
pub mod input;
pub mod send_webhook;
pub mod sign;

use std::io;

use relay::destination::http_client::BuildError;
use relay_core::webhook::signature::SigningSecret;

use relay_sqlite::data_dir::config::{LocalSettings, Setting};
use relay_sqlite::data_dir::{DataDir, DataDirError};

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandStatus {
    /// As it should.
    Succeeded,
    /// The relay refused what was sent.
    Rejected,
}

/// Why a command could not run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The file is not to be had.
    #[error("{path} cannot be read ({detail}): give the path of a file, or - for standard input")]
    Input {
        /// The file.
        path: String,
        /// What the system says.
        detail: String,
    },
    /// Nothing can be signed.
    #[error(
        "there is no signing secret: set LOOPS_SIGNING_SECRET to the secret of Loops' webhook page, or do not set it at all to use a generated one"
    )]
    NoSecret,
    /// No secret has been generated yet.
    #[error("there is no signing secret in {folder} yet: start the relay first, or set LOOPS_SIGNING_SECRET")]
    NoSecretYet {
        /// The data folder.
        folder: String,
    },
    /// There is no data folder.
    #[error("{folder} is not a data folder: start the relay first, or set RELAY_DATA to where it keeps its data")]
    NoDataDir {
        /// Where it was looked for.
        folder: String,
    },
    /// The relay does not answer.
    #[error("no relay answers at {url}: start it with `make run`, or set RELAY_LISTEN to where it listens")]
    NoRelay {
        /// Where it was looked for.
        url: String,
    },
    /// The data folder is not to be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store is not to be had.
    #[error(transparent)]
    Store(#[from] relay_sqlite::admin::Error),
    /// Nothing can be printed.
    #[error("nothing can be printed ({0})")]
    Print(#[from] io::Error),
    /// A fault of the program.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// A fault of the program.
    #[error("the listing cannot be written as JSON ({0})")]
    Json(#[from] serde_json::Error),
}

/// The secret to sign with: the first that is set, or the generated one.
fn signing_secret(settings: &LocalSettings) -> Result<SigningSecret, CommandError> {
    match &settings.signing_secrets {
        Setting::Set(secrets) => secrets.first().cloned().ok_or(CommandError::NoSecret),
        Setting::Unset => {
            let data_dir = DataDir::new(settings.data_dir.clone());
            if !data_dir.path().is_dir() {
                return Err(CommandError::NoSecretYet { folder: settings.data_dir.display().to_string() });
            }
            SigningSecret::parse(&data_dir.signing_secret()?).map_err(|_| CommandError::NoSecret)
        }
    }
}
