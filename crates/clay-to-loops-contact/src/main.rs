//! The function behind `PUT /api/v1/contacts/update`.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::answer::Caller;
use relay::http_client;
use relay_aws::account::environment;
use relay_aws::start::{self, StartFault};
use relay_aws::{door, rows, telemetry};
use relay_core::row::Kind;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::start();
    start::end(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let (handler, far_ends) = rows::handler(&environment(), &client).map_err(StartFault::from)?;
    rows::start(&handler, &client, &far_ends).await;
    door::serve(Caller::Clay, |request| handler.handle(Kind::Contact, request)).await
}
