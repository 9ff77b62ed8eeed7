//! The function behind `POST /webhooks/loops`.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::destination::http_client;
use relay::ingress::loops_webhook::{LoopsToClay, LoopsToClaySettings};
use relay::ingress::response::Caller;
use relay::ports::clock::System;
use relay_aws::lambda::config::{CLAY_DEAD_LETTER_URL, CLAY_QUEUE_URL, FunctionSettings, LOOPS_TO_CLAY_SECRET_ARN};
use relay_aws::lambda::init::{self, StartFault, warm_up};
use relay_aws::lambda::{http, telemetry};
use relay_aws::sdk::clients::environment;
use relay_aws::secrets::cached_secret::ManagedSecret;
use relay_aws::sqs::queue::SqsQueue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::start();
    init::end(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let needed = [LOOPS_TO_CLAY_SECRET_ARN, CLAY_QUEUE_URL, CLAY_DEAD_LETTER_URL];
    let FunctionSettings { shared, account, needed } =
        FunctionSettings::read(&environment(), &client, needed).map_err(StartFault::from)?;
    let [secret, queue, dead_letters] = needed;

    let secrets = ManagedSecret::new(account.secrets_manager(), secret, shared.secret_ttl, System);
    warm_up(&secrets, &client, &[&queue]).await;
    let handler = LoopsToClay {
        secrets,
        queue: SqsQueue::new(account, queue, dead_letters).ready(),
        ambient: System,
        settings: LoopsToClaySettings {
            selection: shared.relayed_events,
            tolerance: shared.signature_tolerance,
            contact_source: shared.contact_source,
        },
    };
    http::serve(Caller::Loops, |request| handler.handle(request)).await
}
