//! The functions for rows from Clay: one for updates of contacts, one for events, and one for the rest of the API.

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::Error;
use relay::destination::loops::HttpLoopsClient;
use relay::ingress::api::ApiHandler;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::delivery_status::DeliveryStatusHandler;
use relay::ingress::loops_read::LoopsReadHandler;
use relay::ingress::response::Caller;
use relay::ingress::schema_cache::SchemaCache;
use relay_core::row::RowKind;

use crate::functions::setup::{self, LOOPS_VARIABLES, LoopsSecrets, Setup};
use crate::lambda::http_function;
use crate::lambda::init::warm_up;
use crate::ledger::contacts::ContactLedger;
use crate::ledger::deliveries::Ledger;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::ledger::rate_limiter::DistributedRateLimiter;
use crate::secrets::cached_secret::SecretUser;

/// Longest time that a start waits for the list of contact properties.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(1);

type RowHandler = ClayRowHandler<LoopsSecrets, HttpLoopsClient, ContactLedger, DistributedRateLimiter>;

/// Updates a Loops contact with each row.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn contact() -> Result<(), Error> {
    run(RowKind::Contact).await
}

/// Sends a Loops event for each row.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn event() -> Result<(), Error> {
    run(RowKind::Event).await
}

/// Serves the routes of the API that no other function has.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn api() -> Result<(), Error> {
    let (rows, ledger) = start().await?;
    let handler = ApiHandler {
        reads: LoopsReadHandler {
            secrets: rows.secrets.clone(),
            loops: rows.loops.clone(),
            limiter: Arc::clone(&rows.limiter),
            clock: Arc::clone(&rows.clock),
        },
        status: DeliveryStatusHandler {
            secrets: rows.secrets.clone(),
            deliveries: ledger,
            clock: Arc::clone(&rows.clock),
        },
        rows,
    };
    http_function::serve(Caller::Clay, |request| handler.handle(request)).await
}

async fn run(kind: RowKind) -> Result<(), Error> {
    let (handler, _) = start().await?;
    http_function::serve(Caller::Clay, |request| handler.handle(kind, request)).await
}

/// Returns the handler of rows, with the ledger behind it. It has read and connected what the first row needs.
async fn start() -> Result<(RowHandler, Ledger), Error> {
    let setup = Setup::from_env(&LOOPS_VARIABLES, SecretUser::HttpFunction)?;
    let ledger = setup.ledger();
    let limiter = setup.limiter(DynamoLimiterStore::for_loops, &ledger, setup.shared.loops_rate);
    let Setup { shared, client, clients, clock, secrets, queue, .. } = setup;
    let loops = HttpLoopsClient::new(client.clone(), &shared.loops_api_url);
    let handler = ClayRowHandler {
        secrets: setup::with_account(secrets.clone(), &ledger, &loops, &shared.loops_api_url, &limiter, &clock),
        loops,
        intake: ContactLedger::new(queue, ledger.clone(), Arc::clone(&clock)),
        limiter,
        clock,
        contact_source: shared.contact_source,
        schema: SchemaCache::new(shared.typed_properties),
    };
    warm_up(&secrets, &client, &[&shared.loops_api_url, &clients.dynamodb_origin()]).await;
    let schema_refresher = handler.schema_refresher();
    // A list that takes longer is read later, when a row finds it due.
    drop(tokio::time::timeout(SCHEMA_TIMEOUT, schema_refresher.refresh_if_due()).await);
    // The task goes on whenever the function runs, and no row waits for it.
    tokio::spawn(schema_refresher.run());
    Ok((handler, ledger))
}
