//! The commands of `relayctl` that messages suggest: with the options by which they act on the same relay.

use std::fmt::Display;
use std::path::Path;
use std::sync::OnceLock;

static COMMAND_LINE: OnceLock<String> = OnceLock::new();

/// Records how this process names its relay, for example `relayctl --stack relay`.
pub fn set_command_line(command_line: String) {
    // A process has one command line.
    let _ = COMMAND_LINE.set(command_line);
}

/// Returns a command with these arguments for the same relay, in backticks.
pub fn suggest(arguments: impl Display) -> String {
    format!("`{} {arguments}`", COMMAND_LINE.get().map_or("relayctl", String::as_str))
}

/// Returns the beginning of a command line for the relay of a data folder.
pub fn local_command_line(data_dir: &Path) -> String {
    format!("relayctl --local={}", shell_quote(&data_dir.display().to_string()))
}

/// Quotes a word for a shell.
pub fn shell_quote(word: &str) -> String {
    let is_plain = |ch: char| ch.is_alphanumeric() || "/._-~+@:".contains(ch);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
