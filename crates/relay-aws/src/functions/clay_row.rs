//! The functions behind `PUT /api/v1/contacts/update` and `POST /api/v1/events/send`.

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::Error;
use relay::config::env::{EnvReader, SharedSettings};
use relay::destination::http_client::{self, HttpClient};
use relay::destination::loops::HttpLoopsClient;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::response::Caller;
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::clock::SystemClock;
use relay_core::row::RowKind;

use crate::lambda::config::{CLAY_TO_LOOPS_SECRET_ARN, LEDGER_TABLE, LOOPS_DEAD_LETTER_URL, LOOPS_QUEUE_URL, required};
use crate::lambda::http;
use crate::lambda::init::{ConfigError, warm_up};
use crate::ledger::contact_lock::ContactFastPath;
use crate::ledger::deliveries::Ledger;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::ledger::rate_limiter::DistributedRateLimiter;
use crate::ledger::table::LedgerTable;
use crate::sdk::clients::{AwsClients, environment};
use crate::secrets::cached_secret::CachedSecret;
use crate::sqs::queue::SqsQueue;

/// Longest time that a start waits for the list of contact properties.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(1);

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

async fn run(kind: RowKind) -> Result<(), Error> {
    let client = http_client::build()?;
    let Config { shared, clients, secret_arn, queue_url, dead_letter_url, ledger_table } = Config::from_env(&client)?;
    let secrets = CachedSecret::new(clients.secrets_manager(), secret_arn, shared.secret_ttl, Arc::new(SystemClock));
    let table = LedgerTable::new(clients.dynamodb(), ledger_table);
    let ledger = Ledger::new(table.clone()).with_contact_hash_key(shared.contact_hash_key);
    let queue = SqsQueue::new(clients.clone(), queue_url, dead_letter_url);
    let limiter =
        DistributedRateLimiter::new(DynamoLimiterStore::for_loops(table), shared.loops_rate, Arc::new(SystemClock));
    let handler = ClayRowHandler {
        secrets: secrets.clone(),
        loops: HttpLoopsClient::new(client.clone(), &shared.loops_api_url),
        fast_path: ContactFastPath::new(queue, ledger, Arc::new(SystemClock)),
        limiter: Arc::new(limiter),
        clock: Arc::new(SystemClock),
        contact_source: shared.contact_source,
        schema: SchemaCache::new(shared.typed_properties),
    };
    warm_up(&secrets, &client, &[&shared.loops_api_url, &clients.dynamodb_origin()]).await;
    let schema_refresher = handler.schema_refresher();
    // A list that takes longer is read later, when a row finds it due.
    drop(tokio::time::timeout(SCHEMA_TIMEOUT, schema_refresher.refresh_if_due()).await);
    // The task goes on whenever the function runs, and no row waits for it.
    tokio::spawn(schema_refresher.run());
    http::serve(Caller::Clay, |request| handler.handle(kind, request)).await
}
