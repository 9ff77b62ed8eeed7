//! The operator's CLI of the Loops–Clay relay.

use std::process::ExitCode;

fn main() -> ExitCode {
    relayctl::run()
}
