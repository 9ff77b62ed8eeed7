//! The worker of the queue to Loops.

use std::sync::Arc;

use lambda_runtime::Error;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::loops::HttpLoopsClient;

use crate::functions::setup::{self, LOOPS_VARIABLES, Setup};
use crate::lambda::init::warm_up;
use crate::lambda::queue_function;
use crate::lambda::worker::QueueWorker;
use crate::ledger::contacts::ContactLedger;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::secrets::cached_secret::SecretUser;

/// Sends queued rows to Loops.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn run() -> Result<(), Error> {
    let setup = Setup::from_env(&LOOPS_VARIABLES, SecretUser::Worker)?;
    let urls = [&*setup.shared.loops_api_url, &setup.clients.dynamodb_origin()];
    warm_up(&setup.secrets, &setup.client, &urls).await;
    let ledger = setup.ledger();
    let limiter = setup.limiter(DynamoLimiterStore::for_loops, &ledger, setup.shared.loops_rate);
    let Setup { shared, client, clock, secrets, queue, .. } = setup;
    let loops = HttpLoopsClient::new(client, &shared.loops_api_url);
    let secrets = setup::with_account(secrets, &ledger, &loops, &shared.loops_api_url, &limiter, &clock);
    let deliverer = LoopsDeliverer { secrets, loops, limiter, clock: Arc::clone(&clock) };
    let order = ContactLedger::new(queue.clone(), ledger.clone(), Arc::clone(&clock));
    queue_function::serve_queue(QueueWorker { deliverer, ledger, order, queue, clock }).await
}
