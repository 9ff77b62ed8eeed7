//! The operator's program of the Loops–Clay relay.

use std::process::ExitCode;

fn main() -> ExitCode {
    relayctl::cli::run()
}
