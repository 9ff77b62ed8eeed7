//! The Loops–Clay relay on one machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    relay_local::cli::run()
}
