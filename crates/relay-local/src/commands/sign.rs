//! `sign`: the headers that Loops would send with a body.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use relay::ports::clock::{Clock as _, SystemClock};
use relay_core::webhook::signature::{ID_HEADER, SIGNATURE_HEADER, SigningSecret, TIMESTAMP_HEADER};
use relay_sqlite::data_dir::config::LocalSettings;

use super::{CommandError, signing_secret};

#[derive(Debug, Clone, Args)]
pub(crate) struct SignArguments {
    /// The body to sign (- for standard input)
    file: String,
    /// The message's id [default: a new one]
    #[arg(long)]
    id: Option<String>,
    /// The time of the request, in Unix seconds [default: now]
    #[arg(long)]
    timestamp: Option<String>,
}

/// A body, and the headers that carry its signature.
pub(crate) struct SignedHeaders {
    pub(super) body: Vec<u8>,
    pub(super) headers: [(&'static str, String); 3],
}

impl SignedHeaders {
    /// Signs a body, which is then sent under this id and at this time, in Unix seconds.
    pub(crate) fn new(secret: &SigningSecret, id: String, timestamp: String, body: Vec<u8>) -> Self {
        let signature = secret.sign(&id, &timestamp, &body);
        Self { body, headers: [(ID_HEADER, id), (TIMESTAMP_HEADER, timestamp), (SIGNATURE_HEADER, signature)] }
    }

    pub(super) fn id(&self) -> &str {
        let [(_, id), ..] = &self.headers;
        id
    }
}

pub(super) fn sign(settings: &LocalSettings, arguments: &SignArguments) -> Result<SignedHeaders, CommandError> {
    let secret = signing_secret(settings)?;
    let body = read_input(&arguments.file)?;
    let id = arguments.id.clone().unwrap_or_else(|| format!("msg_{}", SystemClock.new_id()));
    let timestamp = arguments.timestamp.clone().unwrap_or_else(|| SystemClock.now().as_second().to_string());
    Ok(SignedHeaders::new(&secret, id, timestamp, body))
}

fn read_input(path: &str) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let read = match path {
        "-" => io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes),
        _ => std::fs::read(path),
    };
    read.map_err(|detail| CommandError::Input { path: path.to_owned(), detail })
}

/// Prints the headers, one on a line, as curl's `-H @file` reads them.
pub(crate) fn run(settings: &LocalSettings, arguments: &SignArguments) -> Result<ExitCode, CommandError> {
    let mut out = io::stdout().lock();
    for (name, value) in sign(settings, arguments)?.headers {
        writeln!(out, "{name}: {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}
