//! The function behind `PUT /api/v1/contacts/update`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    relay_aws::lambda::run_function(relay_aws::functions::clay_to_loops::contact).await
}
