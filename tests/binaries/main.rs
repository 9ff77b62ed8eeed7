//! Checks that keep the functions small and quick. `make bench-check` builds the functions and runs this.

mod authorities;
mod budget_file;
mod budgets;
mod dependencies;
mod entropy;

use std::path::{Path, PathBuf};

use relay_testkit::function_harness::FunctionHarness;

/// Something that `make bench-check` sets.
fn required_path(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run `make bench-check`, which sets it"))
        .into()
}

/// Loads the harness for the translated template.
async fn load_harness() -> FunctionHarness {
    FunctionHarness::from_template(&required_path("RELAY_TEMPLATE")).await
}

/// A function as it is released.
fn function_binary(function: &str) -> PathBuf {
    required_path("RELAY_FUNCTIONS").join(function)
}

/// Reads a file for a message.
fn read_file(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
