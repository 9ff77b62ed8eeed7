//! The command line.
//!
//! See docs/adr/0012-relayctl.md.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};
use relay_core::terminal::{escape_for_terminal, escape_json_for_terminal};
use relay_doctor::invocation;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;

use crate::commands::{console, dead_letters, deliveries, doctor, pause, setup, shell, show, tail};
use crate::error::{Error, UsageError};
use crate::exit::ExitStatus;
use crate::explain::Explain as _;
use crate::output::Output;
use crate::target::Options;

/// Sets up, examines and operates a Loops–Clay relay: a stack in an AWS account, or a relay-local
#[derive(Debug, Parser)]
#[command(name = "relayctl", version, max_term_width = 100, after_help = EXIT_CODES, subcommand_required = true)]
struct Cli {
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
    /// List what is waiting, delivered and dead, and how the queues stand
    Deliveries(deliveries::DeliveriesArguments),
    /// Show one delivery, its attempts and reasons
    Show(show::ShowArguments),
    /// List, show, send again and drop what was given up
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Stop delivering one way; what comes is stored
    Pause(pause::PauseArguments),
    /// Deliver one way again
    Resume(pause::PauseArguments),
    /// Serve a page that shows and operates the relay, on this machine alone, until Ctrl-C
    Console(console::ConsoleArguments),
    /// Follow deliveries live, until Ctrl-C
    Tail(tail::TailArguments),
    /// Print the completions for a shell
    Completions(shell::CompletionsArguments),
    /// Print the manual pages of all commands
    Man(shell::ManArguments),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  well
  1  something was refused or failed
  2  wrong use: an argument, or what was given to read
  3  something is not there: the stack, the folder, a permission, credentials, a service
  4  doctor has warnings, and nothing worse";

/// Runs the command of the command line.
pub fn run() -> ExitCode {
    // A dump of this program's memory would hold secrets. Where the limit cannot be set, there is nothing else to be done.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let cli = Cli::try_parse().unwrap_or_else(|error| add_local_hint(error, &raw_args()).exit());
    invocation::set_command_line(cli.options.command_line());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print_error(&cli.options, &Error::Print(error)),
    };
    match runtime.block_on(execute(&cli)) {
        Ok(exit_status) => exit_status.into(),
        // The reader of the pipe has closed it, for example `head`.
        Err(Error::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Ok.into(),
        Err(error) => print_error(&cli.options, &error),
    }
}

async fn execute(cli: &Cli) -> Result<ExitStatus, Error> {
    let (options, output) = (&cli.options, Output::new(cli.options.json));
    options.check_conflicts()?;
    check_single_data_dir(&raw_args())?;
    match &cli.command {
        Command::Setup(arguments) => setup::run(options, arguments, output).await,
        Command::Doctor(arguments) => doctor::run(options, arguments, output).await,
        Command::Deliveries(arguments) => deliveries::run(options, arguments, output).await,
        Command::Show(arguments) => show::run(options, arguments, output).await,
        Command::DeadLetters(command) => dead_letters::run(options, command, output).await,
        Command::Pause(arguments) => pause::run(options, arguments, true, output).await,
        Command::Resume(arguments) => pause::run(options, arguments, false, output).await,
        Command::Console(arguments) => console::run(options, arguments, output).await,
        Command::Tail(arguments) => tail::run(options, arguments, output).await,
        Command::Completions(_) if options.json => Err(UsageError::JsonUnsupported { command: "completions" }.into()),
        Command::Man(_) if options.json => Err(UsageError::JsonUnsupported { command: "man" }.into()),
        Command::Completions(arguments) => shell::completions(arguments, Cli::command()),
        Command::Man(arguments) => shell::man(arguments, Cli::command()),
    }
}

/// Prints an error: a sentence on standard error, or with `--json` a document `{"error": …}` on standard output.
fn print_error(options: &Options, error: &Error) -> ExitCode {
    // If even that cannot be written, the exit code still says so.
    let _ = if options.json {
        writeln!(io::stdout(), "{}", escape_json_for_terminal(&json!({"error": error.to_string()}).to_string()))
    } else {
        writeln!(io::stderr(), "relayctl: {}", escape_for_terminal(&error.to_string()))
    };
    error.explain().exit_status.into()
}

fn raw_args() -> Vec<String> {
    let args = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    args.map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// Rejects two different data folders. clap takes the last one if another stands before the command.
fn check_single_data_dir(args: &[String]) -> Result<(), UsageError> {
    let mut local_options = args.iter().filter(|arg| *arg == "--local" || arg.starts_with("--local="));
    let Some(first) = local_options.next() else { return Ok(()) };
    match local_options.find(|other| *other != first) {
        Some(_) => Err(UsageError::ConflictingTargets { option: "another --local" }),
        None => Ok(()),
    }
}

/// Adds a hint for `--local FOLDER`, which clap reads as `--local` and another word.
fn add_local_hint(mut error: clap::Error, args: &[String]) -> clap::Error {
    let following_arg =
        args.iter().zip(args.iter().skip(1)).find(|(option, _)| *option == "--local").map(|(_, arg)| arg);
    let is_unrecognized = matches!(error.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument);
    if let Some(data_dir) = following_arg.filter(|arg| is_unrecognized && !arg.starts_with('-') && !is_command(arg)) {
        let tip = format!("a folder stands behind an equals sign: --local={data_dir}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn is_command(name: &str) -> bool {
    fn has_subcommand(command: &clap::Command, name: &str) -> bool {
        command.get_subcommands().any(|command| command.get_name() == name || has_subcommand(command, name))
    }
    has_subcommand(&Cli::command(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn argument_after_local_is_not_its_data_dir() {
        let cli = Cli::try_parse_from(["relayctl", "--local", "doctor"]).unwrap();
        assert_eq!(cli.options.local, Some(None));
        let cli = Cli::try_parse_from(["relayctl", "doctor", "--local=there"]).unwrap();
        assert_eq!(cli.options.local, Some(Some("there".into())));
    }

    #[test]
    fn data_dir_after_space_yields_equals_sign_hint() {
        let message = |line: &str| {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let error = Cli::try_parse_from([&["relayctl".to_owned()], &args[..]].concat()).unwrap_err();
            add_local_hint(error, &args).to_string()
        };
        for line in [
            "--local there doctor",
            "doctor --local there",
            "show --local there clay_1",
            "dead-letters --local there list",
        ] {
            let message = message(line);
            assert!(message.contains("a folder stands behind an equals sign: --local=there"), "{line}: {message}");
        }
        for line in ["--local doctor there", "doctor --local --lcoal", "--local dead-letters lost"] {
            assert!(!message(line).contains("equals sign"), "{line}");
        }
    }

    #[test]
    fn two_different_data_dirs_are_rejected() {
        let check = |line: &str| check_single_data_dir(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in ["--local=a setup --local", "--local doctor --local=a", "--local=a doctor --local=b"] {
            let error = check(line).unwrap_err();
            assert_eq!(error.explain().exit_status as u8, 2, "{line}: {error}");
        }
        for line in ["setup", "--local=a doctor --local=a", "--local doctor", "doctor --local"] {
            check(line).unwrap();
        }
    }

    #[test]
    fn stack_and_data_dir_together_are_rejected() {
        for args in [["--local", "doctor", "--stack=relay"], ["--stack=relay", "doctor", "--local"]] {
            let cli = Cli::try_parse_from([&["relayctl"], &args[..]].concat()).unwrap();
            assert!(matches!(cli.options.check_conflicts(), Err(UsageError::ConflictingTargets { option: "--stack" })));
        }
    }
}
