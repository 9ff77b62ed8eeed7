//! What the functions share at their start: settings, clients, secret, queue and ledger.

use std::num::NonZeroU32;
use std::sync::Arc;

use lambda_runtime::Error;
use relay::config::env::{EnvReader, SettingError, SharedSettings, environment};
use relay::config::names::LOOPS_API_URL;
use relay::config::secret_document::DocumentParser;
use relay::destination::account_secrets::{AccountPorts, AccountSecrets};
use relay::destination::http_client::{self, HttpClient};
use relay::destination::loops::HttpLoopsClient;
use relay::ports::clock::{SharedClock, SystemClock};
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::delivery::Direction;
use relay_core::webhook::route::{is_loopback, parse_destination_url};

use crate::lambda::init::ConfigError;
use crate::ledger::deliveries::Ledger;
use crate::ledger::limiter_item::DynamoLimiterStore;
use crate::ledger::rate_limiter::DistributedRateLimiter;
use crate::ledger::table::LedgerTable;
use crate::sdk::clients::{AwsClients, required};
use crate::secrets::cached_secret::{CachedSecret, SecretUser};
use crate::sqs::queue::SqsQueue;

/// Names of the variables that the template sets for a function, and the form of its secret.
pub(crate) struct Variables<T> {
    direction: Direction,
    secret_arn: &'static str,
    secret: fn(&AwsClients) -> DocumentParser<T>,
    queue_url: &'static str,
    dead_letter_url: &'static str,
    ledger_table: Option<&'static str>,
}

/// Variables of the webhook function, which needs no ledger.
pub(crate) const WEBHOOK_VARIABLES: Variables<LoopsToClaySecret> = Variables {
    direction: Direction::LoopsToClay,
    secret_arn: "LOOPS_TO_CLAY_SECRET_ARN",
    secret: AwsClients::loops_to_clay_parser,
    queue_url: "CLAY_QUEUE_URL",
    dead_letter_url: "CLAY_DEAD_LETTER_URL",
    ledger_table: None,
};
/// Variables of the worker to Clay.
pub(crate) const CLAY_WORKER_VARIABLES: Variables<LoopsToClaySecret> =
    Variables { ledger_table: Some("LEDGER_TABLE"), ..WEBHOOK_VARIABLES };
/// Variables of the row functions and of the worker to Loops.
pub(crate) const LOOPS_VARIABLES: Variables<ClayToLoopsSecret> = Variables {
    direction: Direction::ClayToLoops,
    secret_arn: "CLAY_TO_LOOPS_SECRET_ARN",
    secret: |_| ClayToLoopsSecret::parse,
    queue_url: "LOOPS_QUEUE_URL",
    dead_letter_url: "LOOPS_DEAD_LETTER_URL",
    ledger_table: Some("LEDGER_TABLE"),
};

pub(crate) struct Setup<T> {
    pub(crate) shared: SharedSettings,
    pub(crate) client: HttpClient,
    pub(crate) clients: AwsClients,
    pub(crate) clock: SharedClock,
    pub(crate) secrets: CachedSecret<T>,
    pub(crate) queue: SqsQueue,
    ledger_table: String,
}

impl<T> Setup<T> {
    /// Reads the environment. The error names all wrong settings at once.
    pub(crate) fn from_env(names: &Variables<T>, secret_user: SecretUser) -> Result<Self, Error> {
        let client = http_client::build()?;
        let variables = environment();
        let mut reader = EnvReader::new(&variables);
        let shared = SharedSettings::from_reader(&mut reader);
        let clients = AwsClients::from_env(&mut reader, client.clone());
        let mut required = |name| required(&mut reader, name, "set, as the template does", "the output of the stack");
        let secret_arn = required(names.secret_arn);
        let queue_url = required(names.queue_url);
        let dead_letter_url = required(names.dead_letter_url);
        let ledger_table = names.ledger_table.map(required).unwrap_or_default();
        if !clients.is_emulated() && parse_destination_url(&shared.loops_api_url).is_ok_and(|url| is_loopback(&url)) {
            let (expected_format, example) = ("the https URL of the Loops API", "https://app.loops.so/api");
            reader.push_error(SettingError { name: LOOPS_API_URL, expected_format, example });
        }
        reader.into_result(()).map_err(ConfigError)?;
        let clock: SharedClock = Arc::new(SystemClock);
        let (secrets_manager, ttl) = (clients.secrets_manager(), shared.secret_ttl);
        let (direction, parse) = (names.direction, (names.secret)(&clients));
        let secrets =
            CachedSecret::new(secrets_manager, secret_arn, direction, parse, secret_user, ttl, Arc::clone(&clock));
        Ok(Self {
            secrets,
            queue: SqsQueue::new(clients.clone(), queue_url, dead_letter_url),
            shared,
            client,
            clients,
            clock,
            ledger_table,
        })
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let table = LedgerTable::new(self.clients.dynamodb(), self.ledger_table.clone());
        Ledger::new(table).with_contact_hash_key(self.shared.contact_hash_key.clone())
    }

    /// Creates the rate limiter of a destination, whose item is in the ledger's table.
    pub(crate) fn limiter(
        &self,
        store: fn(LedgerTable) -> DynamoLimiterStore,
        ledger: &Ledger,
        per_second: NonZeroU32,
    ) -> Arc<DistributedRateLimiter> {
        let store = store(ledger.table().clone());
        Arc::new(DistributedRateLimiter::new(store, per_second, Arc::clone(&self.clock)))
    }
}

/// The secret of the direction to Loops, with the account of its key.
pub(crate) type LoopsSecrets =
    AccountSecrets<CachedSecret<ClayToLoopsSecret>, Ledger, HttpLoopsClient, DistributedRateLimiter>;

/// Completes the secret of the direction to Loops with the account of its key.
pub(crate) fn with_account(
    secrets: CachedSecret<ClayToLoopsSecret>,
    ledger: &Ledger,
    loops: &HttpLoopsClient,
    api_url: &str,
    limiter: &Arc<DistributedRateLimiter>,
    clock: &SharedClock,
) -> LoopsSecrets {
    let ports = AccountPorts {
        ledger: ledger.clone(),
        loops: loops.clone(),
        api_url: api_url.to_owned(),
        limiter: Arc::clone(limiter),
        clock: Arc::clone(clock),
    };
    AccountSecrets::new(secrets, ports)
}
