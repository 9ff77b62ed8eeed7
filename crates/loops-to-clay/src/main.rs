//! The function behind `POST /webhooks/loops`.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::destination::http_client;
use relay::ingress::loops_webhook::{LoopsWebhookHandler, LoopsWebhookSettings};
use relay::ingress::response::Caller;
use relay::ports::clock::SystemClock;
use relay_aws::lambda::config::{CLAY_DEAD_LETTER_URL, CLAY_QUEUE_URL, FunctionSettings, LOOPS_TO_CLAY_SECRET_ARN};
use relay_aws::lambda::init::{self, ConfigError, warm_up};
use relay_aws::lambda::{http, telemetry};
use relay_aws::sdk::clients::environment;
use relay_aws::secrets::cached_secret::CachedSecret;
use relay_aws::sqs::queue::SqsQueue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::init();
    init::exit_code(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let required = [LOOPS_TO_CLAY_SECRET_ARN, CLAY_QUEUE_URL, CLAY_DEAD_LETTER_URL];
    let FunctionSettings { shared, clients, required } =
        FunctionSettings::from_env(&environment(), &client, required).map_err(ConfigError::from)?;
    let [secret_arn, queue_url, dead_letter_url] = required;

    let secrets = CachedSecret::new(clients.secrets_manager(), secret_arn, shared.secret_ttl, SystemClock);
    warm_up(&secrets, &client, &[&queue_url]).await;
    let handler = LoopsWebhookHandler {
        secrets,
        queue: SqsQueue::new(clients, queue_url, dead_letter_url).with_client(),
        clock: SystemClock,
        settings: LoopsWebhookSettings {
            selection: shared.relayed_events,
            tolerance: shared.signature_tolerance,
            contact_source: shared.contact_source,
        },
    };
    http::serve(Caller::Loops, |request| handler.handle(request)).await
}
