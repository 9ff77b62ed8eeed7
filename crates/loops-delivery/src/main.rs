//! The worker that sends queued rows to Loops.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::main(relay_aws::functions::loops_delivery::run).await
}
