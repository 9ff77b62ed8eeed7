//! The function behind `PUT /api/v1/contacts/update`.

use lambda_http::{Error, run, service_fn};
use relay::http_client;
use relay_aws::account::environment;
use relay_aws::start::StartFault;
use relay_aws::{door, rows, telemetry};
use relay_core::row::Kind;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let client = http_client::build()?;
    let (handler, loops) = rows::handler(&environment(), &client).map_err(StartFault::from)?;
    rows::start(&handler, &client, &loops).await;
    let handler = &handler;
    run(service_fn(|event| async move {
        Ok::<_, Error>(door::response(handler.handle(Kind::Contact, door::request(event)).await))
    }))
    .await
}
