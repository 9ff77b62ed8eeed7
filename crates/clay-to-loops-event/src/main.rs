//! The function behind `POST /api/v1/events/send`.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::destination::http_client;
use relay::ingress::response::Caller;
use relay_aws::functions::clay_row;
use relay_aws::lambda::init::{self, ConfigError};
use relay_aws::lambda::{http, telemetry};
use relay_aws::sdk::clients::environment;
use relay_core::row::RowKind;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::init();
    init::exit_code(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let (handler, warm_up_urls) = clay_row::build(&environment(), &client).map_err(ConfigError::from)?;
    clay_row::init(&handler, &client, &warm_up_urls).await;
    http::serve(Caller::Clay, |request| handler.handle(RowKind::Event, request)).await
}
