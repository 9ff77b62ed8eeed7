//! The command line.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

use clap::{Args, Parser, Subcommand};
use relay::config::env::{SettingError, environment};
use relay_sqlite::data_dir::config::LocalSettings;
use relay_sqlite::data_dir::secrets_file;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::commands::{deliveries, send_webhook, sign};
use crate::serve::{self, StartError};
use crate::telemetry;

/// The exit code of a command that a setting, a folder or an address prevents.
const EXIT_CONFIG: u8 = 2;

/// The Loops–Clay relay on one machine: webhooks from Loops to Clay tables, rows from Clay to Loops.
#[derive(Debug, Parser)]
#[command(name = "relay-local", version, max_term_width = 100, after_help = SETTINGS)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Default, Clone, Copy, Args)]
struct ServeArguments {
    /// Simulate Loops and Clay where they are not set, although their secrets are, or real ones were
    #[arg(long)]
    simulate: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (this is what happens without a command)
    Serve(ServeArguments),
    /// Sign a file as Loops does, post it to the running relay, and follow it to Clay
    SendWebhook(send_webhook::SendWebhookArguments),
    /// Print the headers that Loops would send with a file
    Sign(sign::SignArguments),
    /// List what is waiting, delivered and dead, with reasons
    Deliveries(deliveries::DeliveriesArguments),
}

const SETTINGS: &str = "\
Settings (environment variables; what is not set is simulated or generated, what is set but empty is closed,
and so is Loops or Clay where it is not set and its RELAY_TOKEN or LOOPS_SIGNING_SECRET is;
keys, URLs and tokens may also be kept in the data folder: `relayctl setup --local` puts them there):
  RELAY_LISTEN                 where to listen [127.0.0.1:8787]
  RELAY_CONSOLE                on: the page at / of the relay; or off [on; off where RELAY_LISTEN is no loopback address]
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

/// Runs the command of the command line.
pub fn run() -> ExitCode {
    protect_memory();
    execute(Cli::parse()).unwrap_or_else(|error| {
        // If standard error is closed, the exit code is all that can be reported.
        let _ = writeln!(io::stderr(), "relay-local: {error}");
        ExitCode::from(EXIT_CONFIG)
    })
}

/// Has the system write no dump of this process's memory, which holds keys and addresses, and on Linux lets no other process of
/// this user look into it or into its environment. Where that is not possible, the relay runs without it.
fn protect_memory() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn execute(cli: Cli) -> Result<ExitCode, Box<dyn Error>> {
    let environment = environment();
    let mut env = environment.clone();
    let stored_names = secrets_file::merge_into_env(&mut env)?;
    let settings = LocalSettings::from_env(&env).map_err(|errors| describe_config_errors(&errors))?;
    let settings = LocalSettings { stored_names, ..settings };
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()
        .map_err(StartError::Io)?;
    Ok(match cli.command.unwrap_or(Command::Serve(ServeArguments::default())) {
        Command::Serve(arguments) => {
            let simulate = cli.serve.simulate || arguments.simulate;
            runtime.block_on(serve::serve(settings, environment, simulate))?;
            ExitCode::SUCCESS
        }
        Command::SendWebhook(arguments) => runtime.block_on(send_webhook::run(&settings, &arguments))?,
        Command::Sign(arguments) => sign::run(&settings, &arguments)?,
        Command::Deliveries(arguments) => runtime.block_on(deliveries::run(&settings, &arguments))?,
    })
}

/// Number of threads that serve requests. The store's writer has a core of its own: where there are two, a second thread
/// beside it only makes them take turns.
fn worker_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

fn describe_config_errors(errors: &[SettingError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
    let summary = if errors.len() == 1 { "a setting is wrong" } else { "several settings are wrong" };
    format!("{summary}; correct and start again:\n{}", lines.join("\n"))
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

    #[test]
    fn simulate_is_given_with_or_without_serve() {
        let simulates = |arguments: &[&str]| {
            let cli = Cli::try_parse_from(arguments).unwrap();
            let command = cli.command.unwrap_or(Command::Serve(ServeArguments::default()));
            cli.serve.simulate || matches!(command, Command::Serve(ServeArguments { simulate: true }))
        };
        assert!(simulates(&["relay-local", "--simulate"]) && simulates(&["relay-local", "serve", "--simulate"]));
        assert!(!simulates(&["relay-local"]) && !simulates(&["relay-local", "serve"]));
    }
}
