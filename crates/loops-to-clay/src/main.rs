//! The function behind `POST /webhooks/loops`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::main(relay_aws::functions::loops_to_clay::run).await
}
