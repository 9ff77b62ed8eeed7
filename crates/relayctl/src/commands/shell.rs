//! `completions` and `man`: the completions of a shell, and the manual pages.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Error, UsageError};
use crate::exit::ExitStatus;

#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ManArguments {
    /// Write each page into a file of its own in this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub(crate) fn completions(arguments: &CompletionsArguments, mut command: Command) -> Result<ExitStatus, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "relayctl", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitStatus::Ok)
}

/// Prints the manual pages, or writes each into a file.
pub(crate) fn man(arguments: &ManArguments, command: Command) -> Result<ExitStatus, Error> {
    match &arguments.to {
        Some(dir) => clap_mangen::generate_to(command, dir)
            .map_err(|error| UsageError::ManPagesNotWritable { path: dir.display().to_string(), kind: error.kind() })?,
        None => {
            let mut page = Vec::new();
            let mut command = command.disable_help_subcommand(true);
            command.build();
            render(&command, &mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
    }
    Ok(ExitStatus::Ok)
}

/// Renders the page of a command and those of its subcommands.
fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    Man::new(command.clone()).render(page)?;
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| render(command, page))
}
