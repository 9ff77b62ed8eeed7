//! The worker of the queue to Clay.

use std::sync::Arc;

use lambda_runtime::Error;
use relay::delivery::clay::ClayDeliverer;

use crate::functions::setup::{CLAY_WORKER_VARIABLES, Setup};
use crate::lambda::contact_order::QueueOrderOnly;
use crate::lambda::init::warm_up_to_clay;
use crate::lambda::queue_function;
use crate::lambda::worker::QueueWorker;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::ledger::webhook_usage::BatchedWebhookLedger;
use crate::secrets::cached_secret::SecretUser;

/// Posts queued events to Clay.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn run() -> Result<(), Error> {
    let setup = Setup::from_env(&CLAY_WORKER_VARIABLES, SecretUser::Worker)?;
    warm_up_to_clay(&setup.secrets, &setup.client, &[&setup.clients.dynamodb_origin()]).await;
    let ledger = setup.ledger();
    let limiter = setup.limiter(DynamoLimiterStore::for_clay, &ledger, setup.shared.clay_rate);
    let Setup { shared, client, clock, secrets, queue, .. } = setup;
    let deliverer = ClayDeliverer {
        secrets,
        clay: client,
        ledger: BatchedWebhookLedger::new(ledger.table().clone()),
        limiter,
        clock: Arc::clone(&clock),
        payload: shared.clay_payload,
        queue: queue.clone(),
    };
    queue_function::serve_queue(QueueWorker { deliverer, ledger, order: QueueOrderOnly, queue, clock }).await
}
