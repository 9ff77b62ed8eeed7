//! The handler behind both routes for rows, put together on AWS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use relay::config::env::SettingError;
use relay::destination::http_client::HttpClient;
use relay::destination::loops::HttpLoopsClient;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::clock::SystemClock;
use relay::ports::secrets::ClayToLoopsSecret;

use crate::lambda::config::{
    CLAY_TO_LOOPS_SECRET_ARN, FunctionSettings, LEDGER_TABLE, LOOPS_DEAD_LETTER_URL, LOOPS_QUEUE_URL,
};
use crate::lambda::init::warm_up;
use crate::ledger::contact_lock::ContactFastPath;
use crate::ledger::deliveries::Ledger;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::ledger::rate_limiter::DistributedRateLimiter;
use crate::ledger::table::LedgerTable;
use crate::secrets::cached_secret::CachedSecret;
use crate::sqs::queue::SqsQueue;

/// The longest that a start waits for the list of contact properties.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(1);

/// The handler of both functions.
pub type AwsClayRowHandler = ClayRowHandler<
    CachedSecret<ClayToLoopsSecret, SystemClock>,
    HttpLoopsClient<SystemClock>,
    ContactFastPath<SystemClock>,
    Arc<DistributedRateLimiter<SystemClock>>,
    SystemClock,
>;

/// The handler, and the places that its first event will be sent to: Loops, and the ledger.
///
/// # Errors
/// Every fault of the settings.
pub fn build(
    variables: &BTreeMap<String, String>,
    client: &HttpClient,
) -> Result<(AwsClayRowHandler, [String; 2]), Vec<SettingError>> {
    let required = [CLAY_TO_LOOPS_SECRET_ARN, LOOPS_QUEUE_URL, LOOPS_DEAD_LETTER_URL, LEDGER_TABLE];
    let FunctionSettings { shared, clients, required } = FunctionSettings::from_env(variables, client, required)?;
    let [secret_arn, queue_url, dead_letter_url, table_name] = required;
    let table = LedgerTable::new(clients.dynamodb(), table_name);
    let ledger = Ledger::new(table.clone()).with_contact_hash_key(shared.contact_hash_key);
    let handler = ClayRowHandler {
        secrets: CachedSecret::new(clients.secrets_manager(), secret_arn, shared.secret_ttl, SystemClock),
        loops: HttpLoopsClient::new(client.clone(), &shared.loops_api_url, SystemClock),
        fast_path: ContactFastPath::new(
            SqsQueue::new(clients.clone(), queue_url, dead_letter_url),
            ledger,
            SystemClock,
        ),
        limiter: Arc::new(DistributedRateLimiter::new(
            DynamoLimiterStore::for_loops(table),
            shared.loops_rate,
            SystemClock,
        )),
        clock: SystemClock,
        contact_source: shared.contact_source,
        schema: SchemaCache::new(shared.typed_properties),
    };
    Ok((handler, [shared.loops_api_url, clients.dynamodb_origin()]))
}

/// What is done before the first row: the secret, a connection to Loops, and over it the list of contact properties. From
/// then on the list is read by a task beside the rows. It goes on whenever the function runs, and no row waits for it.
pub async fn init(handler: &AwsClayRowHandler, client: &HttpClient, [loops_url, ledger_url]: &[String; 2]) {
    warm_up(&handler.secrets, client, &[loops_url, ledger_url]).await;
    let schema_refresher = handler.schema_refresher();
    // What takes longer is read later, when a row finds it due.
    drop(tokio::time::timeout(SCHEMA_TIMEOUT, schema_refresher.refresh_if_due()).await);
    tokio::spawn(schema_refresher.run());
}
