//! The worker of the queue to Loops.

use std::sync::Arc;

use lambda_runtime::Error;
use relay::config::env::{EnvReader, SharedSettings};
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::http_client::{self, HttpClient};
use relay::destination::loops::HttpLoopsClient;
use relay::ports::clock::SystemClock;

use crate::lambda::config::{CLAY_TO_LOOPS_SECRET_ARN, LEDGER_TABLE, LOOPS_DEAD_LETTER_URL, LOOPS_QUEUE_URL, required};
use crate::lambda::init::{ConfigError, warm_up};
use crate::lambda::sqs;
use crate::lambda::worker::QueueWorker;
use crate::ledger::contact_lock::ContactFastPath;
use crate::ledger::deliveries::Ledger;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::ledger::rate_limiter::DistributedRateLimiter;
use crate::ledger::table::LedgerTable;
use crate::sdk::clients::{AwsClients, environment};
use crate::secrets::cached_secret::CachedSecret;
use crate::sqs::queue::SqsQueue;

struct Config {
    shared: SharedSettings,
    clients: AwsClients,
    secret_arn: String,
    queue_url: String,
    dead_letter_url: String,
    ledger_table: String,
}

impl Config {
    fn from_env(client: &HttpClient) -> Result<Self, ConfigError> {
        let variables = environment();
        let mut reader = EnvReader::new(&variables);
        let config = Self {
            shared: SharedSettings::from_reader(&mut reader),
            clients: AwsClients::from_env(&mut reader, client.clone()),
            secret_arn: required(&mut reader, CLAY_TO_LOOPS_SECRET_ARN),
            queue_url: required(&mut reader, LOOPS_QUEUE_URL),
            dead_letter_url: required(&mut reader, LOOPS_DEAD_LETTER_URL),
            ledger_table: required(&mut reader, LEDGER_TABLE),
        };
        Ok(reader.into_result(config)?)
    }
}

/// Sends queued rows to Loops.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let Config { shared, clients, secret_arn, queue_url, dead_letter_url, ledger_table } = Config::from_env(&client)?;
    let secrets =
        CachedSecret::for_worker(clients.secrets_manager(), secret_arn, shared.secret_ttl, Arc::new(SystemClock));
    warm_up(&secrets, &client, &[&shared.loops_api_url, &clients.dynamodb_origin()]).await;
    let table = LedgerTable::new(clients.dynamodb(), ledger_table);
    let ledger = Ledger::new(table.clone()).with_contact_hash_key(shared.contact_hash_key);
    let queue = SqsQueue::new(clients, queue_url, dead_letter_url);
    let deliverer = LoopsDeliverer {
        secrets,
        loops: HttpLoopsClient::new(client, &shared.loops_api_url),
        limiter: Arc::new(DistributedRateLimiter::new(
            DynamoLimiterStore::for_loops(table),
            shared.loops_rate,
            Arc::new(SystemClock),
        )),
        clock: Arc::new(SystemClock),
    };
    let order = ContactFastPath::new(queue.clone(), ledger.clone(), Arc::new(SystemClock));
    let worker = QueueWorker { deliverer, ledger, order, queue, clock: Arc::new(SystemClock) };
    sqs::serve_queue(worker).await
}
