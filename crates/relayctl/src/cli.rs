//! The command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;

use crate::commands::{dead_letters, deliveries, doctor, pause, setup, shell, show, tail};
use crate::error::Error;
use crate::exit::ExitStatus;
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

/// Reads the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayVersion && asks_for_json() => return print_version_json(),
        Err(error) if error.use_stderr() && asks_for_json() => {
            return print_usage_error_json(&add_local_hint(error, &raw_args()));
        }
        Err(error) => add_local_hint(error, &raw_args()).exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print_error(&cli.options, &Error::Print(error)),
    };
    match runtime.block_on(execute(&cli)) {
        Ok(exit_status) => exit_status.into(),
        // Who reads has gone: there is nobody to tell.
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
        Command::Tail(arguments) => tail::run(options, arguments, output).await,
        Command::Completions(_) if options.json => Err(Error::JsonUnsupported { command: "completions" }),
        Command::Man(_) if options.json => Err(Error::JsonUnsupported { command: "man" }),
        Command::Completions(arguments) => shell::completions(arguments, Cli::command()),
        Command::Man(arguments) => shell::man(arguments, Cli::command()),
    }
}

/// Tells a fault: a sentence on standard error, or a document `{"error": …}` on standard output.
fn print_error(options: &Options, error: &Error) -> ExitCode {
    let message = options.with_command_line(&error.to_string());
    // Where even that is gone, the exit code is all that is left to tell.
    let _ = if options.json {
        writeln!(io::stdout(), "{}", json!({"error": message}))
    } else {
        writeln!(io::stderr(), "relayctl: {message}")
    };
    error.exit_status().into()
}

/// The options and other words of the command line.
fn raw_args() -> Vec<String> {
    let args = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    args.map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// Checks that one folder is named. clap takes the last one where another stands before the command.
fn check_single_data_dir(args: &[String]) -> Result<(), Error> {
    let mut local_options = args.iter().filter(|arg| *arg == "--local" || arg.starts_with("--local="));
    let Some(first) = local_options.next() else { return Ok(()) };
    match local_options.find(|other| *other != first) {
        Some(_) => Err(Error::ConflictingTargets { option: "another --local" }),
        None => Ok(()),
    }
}

/// Whether JSON is wanted, on a command line that cannot be read otherwise.
fn asks_for_json() -> bool {
    raw_args().iter().any(|arg| arg == "--json")
}

/// Tells the version in JSON.
fn print_version_json() -> ExitCode {
    let result = writeln!(io::stdout(), "{}", json!({"version": env!("CARGO_PKG_VERSION")}));
    result.map_or_else(|error| Error::Print(error).exit_status(), |()| ExitStatus::Ok).into()
}

/// A folder behind `--local` and a space is taken for a word of its own; whoever wrote it so is told.
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

/// Whether a word is the name of a command, or of a command's own.
fn is_command(name: &str) -> bool {
    fn has_subcommand(command: &clap::Command, name: &str) -> bool {
        command.get_subcommands().any(|command| command.get_name() == name || has_subcommand(command, name))
    }
    has_subcommand(&Cli::command(), name)
}

/// Tells in JSON that the command line cannot be read.
fn print_usage_error_json(error: &clap::Error) -> ExitCode {
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing: --help lists them".to_owned(),
        _ => clap_message(&error.to_string()),
    };
    let _ = writeln!(io::stdout(), "{}", json!({"error": message}));
    ExitStatus::Usage.into()
}

/// What clap says, without the usage and in one line.
fn clap_message(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
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
            clap_message(&add_local_hint(error, &args).to_string())
        };
        for line in [
            "--local there doctor",
            "doctor --local there",
            "show --local there clay_1",
            "dead-letters --local there list",
        ] {
            let message = message(line);
            assert!(message.ends_with("; a folder stands behind an equals sign: --local=there"), "{line}: {message}");
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
            assert_eq!(error.exit_status().code(), 2, "{line}: {error}");
        }
        for line in ["setup", "--local=a doctor --local=a", "--local doctor", "doctor --local"] {
            check(line).unwrap();
        }
    }

    #[test]
    fn stack_and_data_dir_together_are_rejected() {
        for args in [["--local", "doctor", "--stack=relay"], ["--stack=relay", "doctor", "--local"]] {
            let cli = Cli::try_parse_from([&["relayctl"], &args[..]].concat()).unwrap();
            assert!(matches!(cli.options.check_conflicts(), Err(Error::ConflictingTargets { option: "--stack" })));
        }
    }
}
