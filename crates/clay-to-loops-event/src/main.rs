//! The function behind `POST /api/v1/events/send`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::run_function(relay_aws::functions::clay_to_loops::event).await
}
