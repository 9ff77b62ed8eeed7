//! The commands that messages suggest: with the options of this invocation, so that they act on the same relay.

use std::fmt::Display;
use std::sync::OnceLock;

static COMMAND_LINE: OnceLock<String> = OnceLock::new();

/// Records how this invocation names its relay, for example `relayctl --stack relay`.
pub(crate) fn set_command_line(command_line: String) {
    // A process has one command line.
    let _ = COMMAND_LINE.set(command_line);
}

/// Returns a command with these arguments for the same relay, in backticks.
pub(crate) fn suggest(arguments: impl Display) -> String {
    format!("`{} {arguments}`", COMMAND_LINE.get().map_or("relayctl", String::as_str))
}
