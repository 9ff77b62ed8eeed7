//! `sign`: the headers that Loops would send with a body.

use std::io::{self, Write as _};

use clap::Args;
use relay::ports::clock::{Ambient as _, System};
use relay_core::webhook::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

use super::{CommandFault, Done, signing_secret};
use crate::cli::Input;
use relay_sqlite::data_dir::config::LocalSettings;

/// What `sign` is told.
#[derive(Debug, Clone, Args)]
pub struct SignArguments {
    /// The body to sign (- for standard input)
    pub file: Input,
    /// The message's id [default: a new one]
    #[arg(long)]
    pub id: Option<String>,
    /// The time of the request, in Unix seconds [default: now]
    #[arg(long)]
    pub timestamp: Option<String>,
}

/// A signed body.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) body: Vec<u8>,
    pub(super) headers: [(&'static str, String); 3],
}

impl Signed {
    pub(super) fn id(&self) -> &str {
        let [(_, id), ..] = &self.headers;
        id
    }
}

/// Signs a body as the arguments say.
pub(super) fn signed(settings: &LocalSettings, arguments: &SignArguments) -> Result<Signed, CommandFault> {
    let secret = signing_secret(settings)?;
    let body = arguments.file.read()?;
    let id = arguments.id.clone().unwrap_or_else(|| format!("msg_{}", System.unique()));
    let timestamp = arguments.timestamp.clone().unwrap_or_else(|| System.now().as_second().to_string());
    let signature = secret.sign(&id, &timestamp, &body);
    Ok(Signed { body, headers: [(ID_HEADER, id), (TIMESTAMP_HEADER, timestamp), (SIGNATURE_HEADER, signature)] })
}

/// Prints the headers, one on a line, as curl's `-H @file` reads them.
///
/// # Errors
/// When there is nothing to sign, or nothing to sign with.
pub fn run(settings: &LocalSettings, arguments: &SignArguments) -> Result<Done, CommandFault> {
    let mut out = io::stdout().lock();
    for (name, value) in signed(settings, arguments)?.headers {
        writeln!(out, "{name}: {value}")?;
    }
    Ok(Done::Well)
}
