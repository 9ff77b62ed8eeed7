//! The function behind `POST /webhooks/loops`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::run_function(relay_aws::functions::loops_to_clay::run).await
}
