//! The worker that sends stored rows to Loops.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::http_client;
use relay::destination::loops::HttpLoopsClient;
use relay::ports::clock::SystemClock;
use relay_aws::lambda::config::{
    CLAY_TO_LOOPS_SECRET_ARN, FunctionSettings, LEDGER_TABLE, LOOPS_DEAD_LETTER_URL, LOOPS_QUEUE_URL,
};
use relay_aws::lambda::init::{self, ConfigError, warm_up};
use relay_aws::lambda::worker::QueueWorker;
use relay_aws::lambda::{sqs, telemetry};
use relay_aws::ledger::contact_lock::ContactFastPath;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::limiter_item::DynamoLimiterStore;
use relay_aws::ledger::rate_limiter::DistributedRateLimiter;
use relay_aws::ledger::table::LedgerTable;
use relay_aws::sdk::clients::environment;
use relay_aws::secrets::cached_secret::CachedSecret;
use relay_aws::sqs::early_release::EarlyRelease;
use relay_aws::sqs::queue::SqsQueue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::init();
    init::exit_code(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let required = [CLAY_TO_LOOPS_SECRET_ARN, LOOPS_QUEUE_URL, LOOPS_DEAD_LETTER_URL, LEDGER_TABLE];
    let FunctionSettings { shared, clients, required } =
        FunctionSettings::from_env(&environment(), &client, required).map_err(ConfigError::from)?;
    let [secret_arn, queue_url, dead_letter_url, table_name] = required;

    let secrets = CachedSecret::for_worker(clients.secrets_manager(), secret_arn, shared.secret_ttl, SystemClock);
    warm_up(&secrets, &client, &[&shared.loops_api_url, &clients.dynamodb_origin()]).await;
    let parking = EarlyRelease::with_rotations(secrets.rotations());
    let table = LedgerTable::new(clients.dynamodb(), table_name);
    let ledger = Ledger::new(table.clone()).with_contact_hash_key(shared.contact_hash_key);
    let queue = SqsQueue::new(clients, queue_url, dead_letter_url);
    let deliverer = LoopsDeliverer {
        secrets,
        loops: HttpLoopsClient::new(client, &shared.loops_api_url, SystemClock),
        limiter: DistributedRateLimiter::new(DynamoLimiterStore::for_loops(table), shared.loops_rate, SystemClock),
        clock: SystemClock,
    };
    let order = ContactFastPath::new(queue.clone(), ledger.clone(), SystemClock);
    let clock = SystemClock;
    sqs::serve_queue(QueueWorker { deliverer, ledger, order, queue, early_release: parking, clock }).await
}
