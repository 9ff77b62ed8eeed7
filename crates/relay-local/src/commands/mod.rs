//! The commands beside `serve`.

pub(crate) mod deliveries;
pub(crate) mod send_webhook;
pub(crate) mod sign;

use std::io;
use std::path::PathBuf;

use relay::destination::http_client::BuildError;
use relay_core::webhook::signature::SigningSecret;
use relay_sqlite::data_dir::config::{LocalSettings, Setting};
use relay_sqlite::data_dir::{DataDir, DataDirError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{path} cannot be read ({detail}): give the path of a file, or - for standard input")]
    Input { path: String, detail: io::Error },
    #[error(
        "there is no signing secret: set LOOPS_SIGNING_SECRET to the secret of Loops' webhook page, or do not set it at all to use a generated one"
    )]
    NoSecret,
    #[error("there is no signing secret in {} yet: start the relay first, or set LOOPS_SIGNING_SECRET", .0.display())]
    NoSecretYet(PathBuf),
    #[error("{} is not a data folder: start the relay first, or set RELAY_DATA to where it keeps its data", .0.display())]
    NoDataDir(PathBuf),
    #[error("no relay answers at {0}: start it with `make run`, or set RELAY_LISTEN to where it listens")]
    NoRelay(String),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Store(#[from] relay_sqlite::admin::Error),
    #[error("nothing can be printed ({0})")]
    Print(#[from] io::Error),
    #[error(transparent)]
    Client(#[from] BuildError),
    #[error("the listing cannot be written as JSON ({0})")]
    Json(#[from] serde_json::Error),
}

/// Returns the secret to sign with: the first that is set, or the generated one.
fn signing_secret(settings: &LocalSettings) -> Result<SigningSecret, CommandError> {
    match &settings.signing_secrets {
        Setting::Set(secrets) => secrets.first().cloned().ok_or(CommandError::NoSecret),
        Setting::Unset if !settings.data_dir.is_dir() => Err(CommandError::NoSecretYet(settings.data_dir.clone())),
        Setting::Unset => {
            let generated = DataDir::new(settings.data_dir.clone()).signing_secret()?;
            SigningSecret::parse(&generated).map_err(|_| CommandError::NoSecret)
        }
    }
}
