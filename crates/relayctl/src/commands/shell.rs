//! `completions` and `man`: what a shell and `man` know of the program.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::Error;
use crate::exit::ExitStatus;

/// What `completions` is told.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArguments {
    /// For which shell
    pub shell: Shell,
}

/// What `man` is told.
#[derive(Debug, Clone, Args)]
pub struct ManArguments {
    /// Write each page into a file of its own in this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
}

/// Prints what a shell has to read to complete the program's words.
///
/// # Errors
/// When nothing can be printed.
pub fn completions(arguments: &CompletionsArguments, mut command: Command) -> Result<ExitStatus, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "relayctl", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitStatus::Ok)
}

/// Prints the manual pages one after the other, or writes each into a file.
///
/// # Errors
/// When nothing can be printed or written.
pub fn man(arguments: &ManArguments, command: Command) -> Result<ExitStatus, Error> {
    match &arguments.to {
        Some(dir) => clap_mangen::generate_to(command, dir)
            .map_err(|error| Error::ManPagesNotWritable { path: dir.display().to_string(), detail: error.kind() })?,
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

/// A command's page, and behind it those of its own commands, which it names.
fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    Man::new(command.clone()).render(page)?;
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| render(command, page))
}
