//! The command line.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use relay::config::env::SettingError;

use crate::commands::{deliveries, send_webhook, sign};
use relay_sqlite::data_dir::config::LocalSettings;
use relay_sqlite::data_dir::secrets_file;

use crate::{commands, serve, telemetry};

/// The exit code of a start that a setting, a folder or an address prevents.
const EXIT_CONFIG: u8 = 2;

/// The Loops–Clay relay on one machine: webhooks from Loops to Clay tables, rows from Clay to Loops.
#[derive(Debug, Parser)]
#[command(name = "relay-local", version, max_term_width = 100, after_help = SETTINGS)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (this is what happens without a command)
    Serve,
    /// Sign a file as Loops does, post it to the running relay, and follow it to Clay
    SendWebhook(send_webhook::SendWebhookArguments),
    /// Print the headers that Loops would send with a file
    Sign(sign::SignArguments),
    /// List what is waiting, delivered and dead, with reasons
    Deliveries(deliveries::DeliveriesArguments),
}

const SETTINGS: &str = "\
Settings (environment variables; what is not set is simulated or generated, what is set but empty is closed;
keys, URLs and tokens may also be kept in the data folder: `relayctl setup --local` puts them there):
  RELAY_LISTEN                 where to listen [127.0.0.1:8787]
  RELAY_DATA                   the data folder [.relay]
  LOOPS_API_KEY                the key of your Loops account
  LOOPS_SIGNING_SECRET         the secret of Loops' webhook page (several: comma-separated)
  CLAY_WEBHOOK_URL             the URL of your Clay webhook (several: a pool)
  CLAY_WEBHOOK_AUTH_TOKEN      its token (several: one for each URL)
  RELAY_TOKEN                  what Clay sends as bearer token (several allowed)
  RELAYED_EVENTS               which events go to Clay [contact.created]
  CONTACT_SOURCE               written as `source` into contacts that carry none
  TYPED_PROPERTIES             on: values become what their properties are in Loops; or off [on]
  CLAY_PAYLOAD                 raw, or with-id [raw]
  CLAY_RATE_PER_SECOND         rows a second to Clay [8]
  LOOPS_RATE_PER_SECOND        calls a second to Loops [8]
  LOOPS_API_URL                where the Loops API is [https://app.loops.so/api]
  SIGNATURE_TOLERANCE_SECONDS  how far a signature's time may be off, 0 = any [300]
  CONTACT_HASH_KEY             what contacts are hashed with in the log [generated, kept in the data folder]
  RUST_LOG                     error, warn, info or debug [info]";

/// Reads the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let environment = env.clone();
    let stored_names = match secrets_file::merge_into_env(&mut env) {
        Ok(stored_names) => stored_names,
        Err(error) => return fail(&error.to_string()),
    };
    let settings = match LocalSettings::from_env(&env) {
        Ok(settings) => LocalSettings { stored_names, ..settings },
        Err(errors) => return report_config_errors(&errors),
    };
    telemetry::start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&format!("the relay cannot start ({error}): look into the system's limits"));
        }
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => match runtime.block_on(serve::serve(settings, environment)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Command::SendWebhook(arguments) => exit_code(runtime.block_on(send_webhook::run(&settings, &arguments))),
        Command::Sign(arguments) => exit_code(sign::run(&settings, &arguments)),
        Command::Deliveries(arguments) => exit_code(runtime.block_on(deliveries::run(&settings, &arguments))),
    }
}

fn exit_code(result: Result<commands::CommandStatus, commands::CommandError>) -> ExitCode {
    match result {
        Ok(commands::CommandStatus::Succeeded) => ExitCode::SUCCESS,
        Ok(commands::CommandStatus::Rejected) => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string()),
    }
}

fn report_config_errors(errors: &[SettingError]) -> ExitCode {
    let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
    let summary = if errors.len() == 1 { "a setting is wrong" } else { "several settings are wrong" };
    fail(&format!("{summary}; correct and start again:\n{}", lines.join("\n")))
}

fn fail(message: &str) -> ExitCode {
    // Where even standard error is gone, the exit code is all that is left to tell.
    let _ = writeln!(io::stderr(), "relay-local: {message}");
    ExitCode::from(EXIT_CONFIG)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn clap_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn missing_command_defaults_to_serve() {
        assert!(Cli::try_parse_from(["relay-local"]).unwrap().command.is_none());
    }
}
