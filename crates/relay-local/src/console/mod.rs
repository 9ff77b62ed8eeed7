//! The console of this relay: the page that it serves at `/`.
//!
//! See docs/adr/0019-console.md.

mod connect;
pub(crate) mod statistics;

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use jiff::Timestamp;
use relay::destination::http_client;
use relay::operate::action::DEFAULT_REDRIVES_PER_SECOND;
use relay::ports::admin::{Admin as _, QueueStatus};
use relay::ports::clock::SystemClock;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretSource};
use relay_console::backend::ConsoleBackend;
use relay_console::error::ConsoleError;
use relay_console::guard::Access;
use relay_console::view::{Connect, DESTINATION_LIMIT, DirectionView, Overview, WebhookView};
use relay_core::contact::{ContactHashKey, ContactKey};
use relay_core::delivery::Direction;
use relay_core::token::Scope;
use relay_doctor::finding::Finding;
use relay_doctor::local::examine_local;
use relay_doctor::local_relay::LocalRelay;
use relay_sqlite::admin::{SqliteAdmin, SqliteDeadLetters};
use relay_sqlite::data_dir::DataDir;
use tokio::sync::watch;

use crate::app::Relay;
use crate::console::statistics::{PerDirection, Snapshot, Statistics};
use crate::reloading_secrets::ReloadingSecrets;
use crate::trial::Trial;

/// The relay of this process, as its console shows and operates it.
pub(crate) struct LocalConsole {
    pub(crate) data_dir: DataDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) relay: Arc<Relay>,
    pub(crate) secrets: ReloadingSecrets,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) trial: Arc<Trial>,
    pub(crate) contact_hash_key: Option<ContactHashKey>,
    /// Rows a second to Clay, and calls a second to Loops.
    pub(crate) rates: PerDirection<u32>,
}

/// Returns who may use the console of a relay that other machines can reach: who has a token with the scopes that a token has
/// if none are named.
pub(crate) fn with_relay_token(secrets: &ReloadingSecrets) -> Access {
    let secrets = secrets.clone();
    Access::RelayToken(Arc::new(move |authorization: Option<HeaderValue>| {
        let secrets = secrets.clone();
        Box::pin(async move {
            let current: Result<Arc<ClayToLoopsSecret>, _> = secrets.current().await;
            let Ok(secret) = current else { return false };
            let token = secret.tokens.authorize(authorization.as_ref().map(HeaderValue::as_bytes));
            token.is_some_and(|token| Scope::DEFAULT.iter().all(|scope| token.allows(*scope)))
        })
    }))
}

impl ConsoleBackend for LocalConsole {
    type Admin = SqliteAdmin;
    type DeadLetters = SqliteDeadLetters;
    type Finding = Finding;

    fn admin(&self) -> Result<SqliteAdmin, ConsoleError> {
        SqliteAdmin::open(self.data_dir.path()).map_err(ConsoleError::unavailable)
    }

    fn dead_letters(&self, _direction: Option<Direction>) -> Result<SqliteDeadLetters, ConsoleError> {
        SqliteDeadLetters::open(self.data_dir.path(), Arc::new(SystemClock)).map_err(ConsoleError::unavailable)
    }

    async fn overview(&self) -> Result<Overview, ConsoleError> {
        let (admin, now) = (self.admin()?, Timestamp::now());
        let snapshot = self.statistics.snapshot(now);
        let mut directions = Vec::new();
        for status in admin.queues().await.map_err(ConsoleError::unavailable)? {
            directions.push(self.direction_view(&admin, &snapshot, status, now)?);
        }
        Ok(Overview {
            relay: format!("The relay of {}", self.data_dir.path().display()),
            version: env!("CARGO_PKG_VERSION"),
            trial: self.trial.is_simulated(),
            poll_seconds: None,
            at: now,
            directions,
            webhooks: self.webhooks().await?,
            refusals: snapshot.refusals,
            last_refusals: snapshot.last_refusals,
            minutes: Some(snapshot.minutes),
            counted_since: Some(snapshot.since),
        })
    }

    async fn contact_hash(&self, contact: &str) -> Result<Option<String>, ConsoleError> {
        Ok(self.contact_hash_key.as_ref().map(|key| ContactKey::from_search(contact).log_hash(key)))
    }

    async fn route_names(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }

    async fn set_paused(&self, direction: Direction, paused: bool) -> Result<bool, ConsoleError> {
        let changed = self.admin()?.set_paused(direction, paused, Timestamp::now());
        self.statistics.notify();
        changed.map_err(ConsoleError::unavailable)
    }

    async fn connect(&self) -> Result<Connect, ConsoleError> {
        connect::connect(self).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, ConsoleError> {
        let local = self.open()?;
        let client = http_client::build().map_err(ConsoleError::unavailable)?;
        examine_local(&local, &client, None, &|| ()).await.map_err(ConsoleError::unavailable)
    }

    fn redrives_per_second(&self) -> u32 {
        DEFAULT_REDRIVES_PER_SECOND
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.statistics.changes())
    }
}

impl LocalConsole {
    /// Reads the settings of this relay, as they are stored now.
    fn open(&self) -> Result<LocalRelay, ConsoleError> {
        let mut local = LocalRelay::open(self.data_dir.clone()).map_err(ConsoleError::unavailable)?;
        local.settings.listen = self.address;
        Ok(local)
    }

    fn direction_view(
        &self,
        admin: &SqliteAdmin,
        snapshot: &Snapshot,
        status: QueueStatus,
        now: Timestamp,
    ) -> Result<DirectionView, ConsoleError> {
        let direction = status.direction;
        let paused_since = admin.paused_since(direction).map_err(ConsoleError::unavailable)?;
        let counts = snapshot.directions.of(direction);
        let age = |oldest| now.duration_since(oldest).as_secs_f64().max(0.0);
        Ok(DirectionView {
            direction,
            destination: self.secrets.destination(direction),
            paused: paused_since.is_some(),
            paused_since,
            accepted: Some(counts.accepted),
            delivered: Some(counts.delivered),
            waiting: status.waiting,
            held: status.held,
            dead_letters: status.dead_letters,
            oldest_seconds: status.oldest_received_at.map(age),
            per_second: Some(counts.per_second(now)),
            rate_limit: *self.rates.of(direction),
            destination_limit: DESTINATION_LIMIT,
        })
    }

    async fn webhooks(&self) -> Result<Vec<WebhookView>, ConsoleError> {
        let secret: Arc<LoopsToClaySecret> = self.secrets.current().await.map_err(ConsoleError::unavailable)?;
        let (admin, mut views) = (self.admin()?, Vec::new());
        for route in &secret.routes {
            for webhook in &route.webhooks {
                let fingerprint = webhook.fingerprint();
                let usage = admin.webhook_usage(&fingerprint).map_err(ConsoleError::unavailable)?;
                views.push(WebhookView::new(&route.name, fingerprint, &usage));
            }
        }
        Ok(views)
    }
}
