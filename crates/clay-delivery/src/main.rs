//! The worker that posts stored events to Clay.

use std::process::ExitCode;

use lambda_runtime::Error;
use relay::delivery::clay::ClayDelivery;
use relay::delivery::reroute::Rerouting;
use relay::destination::clay::HttpClay;
use relay::destination::http_client;
use relay::ports::clock::System;
use relay_aws::lambda::config::{
    CLAY_DEAD_LETTER_URL, CLAY_QUEUE_URL, FunctionSettings, LEDGER_TABLE, LOOPS_TO_CLAY_SECRET_ARN,
};
use relay_aws::lambda::init::{self, StartFault, warm_up_to_clay};
use relay_aws::lambda::worker::ClayWorker;
use relay_aws::lambda::{sqs, telemetry};
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::limiter_item::PaceInTable;
use relay_aws::ledger::rate_limiter::SharedPace;
use relay_aws::ledger::table::LedgerTable;
use relay_aws::sdk::clients::environment;
use relay_aws::secrets::cached_secret::ManagedSecret;
use relay_aws::sqs::early_release::Parking;
use relay_aws::sqs::queue::SqsQueue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::start();
    init::end(run().await)
}

async fn run() -> Result<(), Error> {
    let client = http_client::build()?;
    let needed = [LOOPS_TO_CLAY_SECRET_ARN, CLAY_QUEUE_URL, CLAY_DEAD_LETTER_URL, LEDGER_TABLE];
    let FunctionSettings { shared, account, needed } =
        FunctionSettings::read(&environment(), &client, needed).map_err(StartFault::from)?;
    let [secret, queue, dead_letters, table] = needed;

    let secrets = ManagedSecret::of_worker(account.secrets_manager(), secret, shared.secret_ttl, System);
    warm_up_to_clay(&secrets, &client, &[&account.dynamodb_origin()]).await;
    let parking = Parking::minding(secrets.mended());
    let table = LedgerTable::new(account.dynamodb(), table);
    let ledger = Ledger::new(table.clone()).with_contact_hash_key(shared.contact_hash_key);
    let clay = ClayDelivery {
        secrets,
        clay: HttpClay::new(client, System),
        ledger: ledger.clone(),
        pace: SharedPace::new(PaceInTable::to_clay(table), shared.clay_rate, System),
        ambient: System,
        payload: shared.clay_payload,
    };
    let queue = SqsQueue::new(account, queue, dead_letters);
    let attempt = Rerouting { clay, queue: queue.clone() };
    sqs::run(ClayWorker { attempt, ledger, parking, ambient: System }, queue, System).await
}
