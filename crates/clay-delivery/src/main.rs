//! The worker that posts stored events to Clay.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::delivery::clay::ClayDeliverer;
use relay::destination::clay::HttpClayClient;
use relay::destination::http_client;
use relay::ports::clock::SystemClock;
use relay_aws::lambda::config::{
    CLAY_DEAD_LETTER_URL, CLAY_QUEUE_URL, FunctionSettings, LEDGER_TABLE, LOOPS_TO_CLAY_SECRET_ARN,
};
use relay_aws::lambda::contact_order::QueueOrder;
use relay_aws::lambda::init::{self, ConfigError, warm_up_to_clay};
use relay_aws::lambda::worker::QueueWorker;
use relay_aws::lambda::{sqs, telemetry};
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
    let required = [LOOPS_TO_CLAY_SECRET_ARN, CLAY_QUEUE_URL, CLAY_DEAD_LETTER_URL, LEDGER_TABLE];
    let FunctionSettings { shared, clients, required } =
        FunctionSettings::from_env(&environment(), &client, required).map_err(ConfigError::from)?;
    let [secret_arn, queue_url, dead_letter_url, table_name] = required;

    let secrets = CachedSecret::for_worker(clients.secrets_manager(), secret_arn, shared.secret_ttl, SystemClock);
    warm_up_to_clay(&secrets, &client, &[&clients.dynamodb_origin()]).await;
    let parking = EarlyRelease::with_rotations(secrets.rotations());
    let table = LedgerTable::new(clients.dynamodb(), table_name);
    let ledger = Ledger::new(table.clone()).with_contact_hash_key(shared.contact_hash_key);
    let queue = SqsQueue::new(clients, queue_url, dead_letter_url);
    let deliverer = ClayDeliverer {
        secrets,
        deliverer: HttpClayClient::new(client, SystemClock),
        ledger: ledger.clone(),
        limiter: DistributedRateLimiter::new(DynamoLimiterStore::for_clay(table), shared.clay_rate, SystemClock),
        clock: SystemClock,
        payload: shared.clay_payload,
        queue: queue.clone(),
    };
    let (order, clock) = (QueueOrder, SystemClock);
    sqs::serve_queue(QueueWorker { deliverer, ledger, order, queue, early_release: parking, clock }).await
}
