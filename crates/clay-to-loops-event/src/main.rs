//! The function behind `POST /api/v1/events/send`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::main(relay_aws::functions::clay_row::event).await
}
