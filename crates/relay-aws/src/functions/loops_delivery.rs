//! The worker of the queue to Loops.

use std::sync::Arc;

use lambda_runtime::Error;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::loops::HttpLoopsClient;

use crate::functions::setup::{Setup, TO_LOOPS};
use crate::lambda::init::warm_up;
use crate::lambda::sqs;
use crate::lambda::worker::QueueWorker;
use crate::ledger::contact_lock::ContactFastPath;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::secrets::cached_secret::Reader;

/// Sends queued rows to Loops.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn run() -> Result<(), Error> {
    let setup = Setup::from_env(&TO_LOOPS, Reader::Worker)?;
    let urls = [&*setup.shared.loops_api_url, &setup.clients.dynamodb_origin()];
    warm_up(&setup.secrets, &setup.client, &urls).await;
    let ledger = setup.ledger();
    let limiter = setup.limiter(DynamoLimiterStore::for_loops, &ledger, setup.shared.loops_rate);
    let Setup { shared, client, clock, secrets, queue, .. } = setup;
    let loops = HttpLoopsClient::new(client, &shared.loops_api_url);
    let deliverer = LoopsDeliverer { secrets, loops, limiter, clock: Arc::clone(&clock) };
    let order = ContactFastPath::new(queue.clone(), ledger.clone(), Arc::clone(&clock));
    sqs::serve_queue(QueueWorker { deliverer, ledger, order, queue, clock }).await
}
