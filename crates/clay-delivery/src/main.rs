//! The worker that posts queued events to Clay.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::run_function(relay_aws::functions::clay_delivery::run).await
}
