//! The function behind the routes below `/api/v1` that are neither an update of a contact nor an event.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::run_function(relay_aws::functions::clay_to_loops::api).await
}
