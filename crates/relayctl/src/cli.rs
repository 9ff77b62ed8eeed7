//! The command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::commands::{doctor, setup};
use crate::ending::Ending;
use crate::fault::Fault;
use crate::output::Output;
use crate::target::Options;

/// Sets up, examines and operates a Loops–Clay relay: a stack in an AWS account, or a relay-local
#[derive(Debug, Parser)]
#[command(name = "relayctl", version, max_term_width = 100, after_help = EXIT_CODES, subcommand_required = true)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fill in the secrets, checked first, and see what to paste where in Loops and Clay
    Setup(setup::SetupArguments),
    /// Examine everything, from the credentials to the last delivery
    Doctor(doctor::DoctorArguments),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  well
  1  something was refused or failed
  2  wrong use: an argument, or what was given to read
  3  something is not there: the stack, the folder, a permission, credentials, a service
  4  doctor has warnings, and nothing worse";

/// Reads the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return fail(cli.options.json, &Fault::Print(fault)),
    };
    match runtime.block_on(execute(&cli)) {
        Ok(ending) => ending.into(),
        // Who reads has gone: there is nobody to tell.
        Err(Fault::Print(fault)) if fault.kind() == io::ErrorKind::BrokenPipe => Ending::Well.into(),
        Err(fault) => fail(cli.options.json, &fault),
    }
}

async fn execute(cli: &Cli) -> Result<Ending, Fault> {
    let (options, output) = (&cli.options, Output::new(cli.options.json));
    match &cli.command {
        Command::Setup(arguments) => setup::run(options, arguments, output).await,
        Command::Doctor(arguments) => doctor::run(options, arguments, output).await,
    }
}

/// Tells a fault: a sentence on standard error, or a document `{"error": …}` on standard output.
fn fail(json: bool, fault: &Fault) -> ExitCode {
    // Where even that is gone, the exit code is all that is left to tell.
    let _ = if json {
        writeln!(io::stdout(), "{}", json!({"error": fault.to_string()}))
    } else {
        writeln!(io::stderr(), "relayctl: {fault}")
    };
    fault.ending().into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_word_behind_local_is_not_its_folder() {
        let cli = Cli::try_parse_from(["relayctl", "--local", "doctor"]).unwrap();
        assert_eq!(cli.options.local, Some(None));
        let cli = Cli::try_parse_from(["relayctl", "doctor", "--local=there"]).unwrap();
        assert_eq!(cli.options.local, Some(Some("there".into())));
    }

    #[test]
    fn a_stack_and_a_folder_cannot_both_be_meant() {
        assert!(Cli::try_parse_from(["relayctl", "doctor", "--local", "--stack", "relay"]).is_err());
    }
}
