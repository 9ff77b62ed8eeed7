//! The function behind `POST /webhooks/loops`.

use std::sync::Arc;

use lambda_runtime::Error;
use relay::config::env::{EnvReader, SharedSettings};
use relay::destination::http_client::{self, HttpClient};
use relay::ingress::loops_webhook::LoopsWebhookHandler;
use relay::ingress::response::Caller;
use relay::ports::clock::SystemClock;

use crate::lambda::config::{CLAY_DEAD_LETTER_URL, CLAY_QUEUE_URL, LOOPS_TO_CLAY_SECRET_ARN, required};
use crate::lambda::http;
use crate::lambda::init::{ConfigError, warm_up};
use crate::sdk::clients::{AwsClients, environment};
use crate::secrets::cached_secret::CachedSecret;
use crate::sqs::queue::SqsQueue;

struct Config {
    shared: SharedSettings,
    clients: AwsClients,
    secret_arn: String,
    queue_url: String,
    dead_letter_url: String,
}

impl Config {
    fn from_env(client: &HttpClient) -> Result<Self, ConfigError> {
        let variables = environment();
        let mut reader = EnvReader::new(&variables);
        let config = Self {
            shared: SharedSettings::from_reader(&mut reader),
            clients: AwsClients::from_env(&mut reader, client.clone()),
            secret_arn: required(&mut reader, LOOPS_TO_CLAY_SECRET_ARN),
            queue_url: required(&mut reader, CLAY_QUEUE_URL),
            dead_letter_url: required(&mut reader, CLAY_DEAD_LETTER_URL),
        };
        Ok(reader.into_result(config)?)
    }
}

/// Verifies webhooks of Loops and enqueues them for Clay.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let Config { shared, clients, secret_arn, queue_url, dead_letter_url } = Config::from_env(&client)?;
    let secrets = CachedSecret::new(clients.secrets_manager(), secret_arn, shared.secret_ttl, Arc::new(SystemClock));
    warm_up(&secrets, &client, &[&queue_url]).await;
    let handler = LoopsWebhookHandler {
        secrets,
        queue: SqsQueue::new(clients, queue_url, dead_letter_url).with_client(),
        clock: Arc::new(SystemClock),
        selection: shared.relayed_events,
        tolerance: shared.signature_tolerance,
        contact_source: shared.contact_source,
    };
    http::serve(Caller::Loops, |request| handler.handle(request)).await
}
