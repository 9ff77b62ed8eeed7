//! The deliveries of a data folder, beside a running relay or without one.

use jiff::Timestamp;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{DeliveryKind, Direction};
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::store::{self, StoreQuery, StoredDelivery};
use rusqlite::Connection;

use super::{Admin, DIRECTIONS, DeliveryQuery};
use crate::error::Error;
use crate::operations::record::{DeliveryRecord, FailureRecord, PauseResult, QueueRecord};

/// What relay-local reads the key of the contacts' hashes from, before the folder.
const CONTACT_HASH_KEY: &str = relay::config::names::CONTACT_HASH_KEY;

/// A data folder whose store is open.
#[derive(Debug)]
pub struct LocalAdmin {
    data_dir: DataDir,
    connection: Connection,
}

impl LocalAdmin {
    /// Opens the store of a folder.
    ///
    /// # Errors
    /// When there is none, or it is not one that this program knows.
    pub fn open(data_dir: DataDir) -> Result<Self, Error> {
        let connection = open_store(&data_dir)?;
        Ok(Self { data_dir, connection })
    }
}

/// Opens the store of a folder that has one.
pub(crate) fn open_store(data_dir: &DataDir) -> Result<Connection, Error> {
    let not_a_data_dir = || Error::NotADataDir { folder: data_dir.path().display().to_string() };
    store::open_existing(data_dir.path())?.ok_or_else(not_a_data_dir)
}

impl Admin for LocalAdmin {
    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, Error> {
        let search = StoreQuery {
            state: query.state,
            direction: query.direction,
            contact_hash: query.contact_hash.clone(),
            webhook_id: query.webhook_id.clone(),
            limit: query.limit,
            ..StoreQuery::default()
        };
        Ok(store::query(&self.connection, &search)?.into_iter().map(delivery_record).collect())
    }

    async fn delivery(&self, id: &str) -> Result<Option<DeliveryRecord>, Error> {
        let search = StoreQuery { id: Some(id.to_owned()), ..StoreQuery::default() };
        let Some(found) = store::query(&self.connection, &search)?.pop() else { return Ok(None) };
        let failures = store::load_failure_counts(&self.connection, id)?.into_iter();
        let failures = failures.map(|failure| FailureRecord {
            reason: failure.reason,
            status: failure.status,
            count: failure.count,
        });
        Ok(Some(DeliveryRecord { failures: failures.collect(), ..delivery_record(found) }))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, Error> {
        let queue_record = |direction: Direction| -> Result<QueueRecord, Error> {
            let (state, dead_letters) = store::queue_status(&self.connection, direction)?;
            let paused_since = store::paused_since(&self.connection, direction)?;
            let (waiting, dead_letters) = (state.waiting.into(), dead_letters.into());
            Ok(QueueRecord { direction, waiting, dead_letters, paused: paused_since.is_some(), paused_since })
        };
        DIRECTIONS.into_iter().map(queue_record).collect()
    }

    async fn set_paused(&self, direction: Direction, paused: bool) -> Result<PauseResult, Error> {
        let changed = if paused {
            store::pause(&self.connection, direction, Timestamp::now())?
        } else {
            store::resume(&self.connection, direction)?
        };
        Ok(PauseResult { direction, paused, changed })
    }

    fn log_group_prefix(&self) -> Option<&str> {
        None
    }

    fn contact_hash_key(&self) -> Result<Option<ContactHashKey>, Error> {
        let env_key = std::env::var(CONTACT_HASH_KEY).ok().and_then(|key| ContactHashKey::new(&key));
        match env_key {
            Some(key) => Ok(Some(key)),
            None => Ok(ContactHashKey::new(&self.data_dir.contact_hash_key()?)),
        }
    }
}

/// What is told of a delivery that was found.
pub(crate) fn delivery_record(found: StoredDelivery) -> DeliveryRecord {
    let (route, webhook_id) = match &found.delivery.kind {
        DeliveryKind::ClayRow { route, webhook_id } => (Some(route.clone()), Some(webhook_id.clone())),
        DeliveryKind::LoopsContact | DeliveryKind::LoopsEvent { .. } => (None, None),
    };
    DeliveryRecord {
        id: found.delivery.id.as_str().to_owned(),
        direction: found.delivery.kind.direction(),
        state: found.state,
        attempts: found.attempts,
        reason: found.reason,
        status: found.status,
        kind: found.delivery.kind.as_str().to_owned(),
        route: route.filter(|route| !route.is_empty()),
        webhook_id,
        contact_hash: found.contact_hash,
        received_at: Some(found.delivery.received_at),
        first_attempt_at: found.first_attempt_at,
        last_attempt_at: found.last_attempt_at,
        next_attempt_at: found.next_attempt_at,
        settled_at: found.settled_at,
        dropped_at: None,
        failures: Vec::new(),
    }
}
