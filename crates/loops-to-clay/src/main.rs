//! The function behind `POST /webhooks/loops`.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::destination::http_client;
use relay::ingress::loops_webhook::{LoopsToClaySettings, LoopsWebhookHandler};
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
    telemetry::start();
    init::exit_code(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let needed = [LOOPS_TO_CLAY_SECRET_ARN, CLAY_QUEUE_URL, CLAY_DEAD_LETTER_URL];
    let FunctionSettings { shared, account, needed } =
        FunctionSettings::read(&environment(), &client, needed).map_err(ConfigError::from)?;
    let [secret, queue, dead_letters] = needed;

    let secrets = CachedSecret::new(account.secrets_manager(), secret, shared.secret_ttl, SystemClock);
    warm_up(&secrets, &client, &[&queue]).await;
    let handler = LoopsWebhookHandler {
        secrets,
        queue: SqsQueue::new(account, queue, dead_letters).with_client(),
        ambient: SystemClock,
        settings: LoopsToClaySettings {
            selection: shared.relayed_events,
            tolerance: shared.signature_tolerance,
            contact_source: shared.contact_source,
        },
    };
    http::serve(Caller::Loops, |request| handler.handle(request)).await
}
