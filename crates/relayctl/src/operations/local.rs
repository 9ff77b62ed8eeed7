//! The deliveries of a data folder, beside a running relay or without one.

use jiff::Timestamp;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{DeliveryKind, Direction};
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::store::{self, Found, Search};
use rusqlite::Connection;

use super::{Admin, DIRECTIONS, DeliveryQuery};
use crate::error::Error;
use crate::operations::record::{DeliveryRecord, FailureRecord, PauseResult, QueueRecord};

/// What relay-local reads the key of the contacts' hashes from, before the folder.
const CONTACT_HASH_KEY: &str = relay::config::names::CONTACT_HASH_KEY;

/// A data folder whose store is open.
#[derive(Debug)]
pub struct LocalOperations {
    folder: DataDir,
    connection: Connection,
}

impl LocalOperations {
    /// Opens the store of a folder.
    ///
    /// # Errors
    /// When there is none, or it is not one that this program knows.
    pub fn open(folder: DataDir) -> Result<Self, Error> {
        let connection = open(&folder)?;
        Ok(Self { folder, connection })
    }
}

/// Opens the store of a folder that has one.
pub(crate) fn open(folder: &DataDir) -> Result<Connection, Error> {
    let no_folder = || Error::NotADataDir { folder: folder.path().display().to_string() };
    store::open_existing(folder.path())?.ok_or_else(no_folder)
}

impl Admin for LocalOperations {
    async fn deliveries(&self, wanted: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, Error> {
        let search = Search {
            state: wanted.state,
            direction: wanted.direction,
            contact_hash: wanted.contact_hash.clone(),
            webhook_id: wanted.webhook_id.clone(),
            limit: wanted.limit,
            ..Search::default()
        };
        Ok(store::search(&self.connection, &search)?.into_iter().map(record).collect())
    }

    async fn delivery(&self, id: &str) -> Result<Option<DeliveryRecord>, Error> {
        let search = Search { id: Some(id.to_owned()), ..Search::default() };
        let Some(found) = store::search(&self.connection, &search)?.pop() else { return Ok(None) };
        let failures = store::failures_of(&self.connection, id)?.into_iter();
        let failures =
            failures.map(|each| FailureRecord { reason: each.reason, status: each.status, count: each.count });
        Ok(Some(DeliveryRecord { failures: failures.collect(), ..record(found) }))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, Error> {
        let queue = |direction: Direction| -> Result<QueueRecord, Error> {
            let (state, dead_letters) = store::queue_status(&self.connection, direction)?;
            let paused_since = store::paused_since(&self.connection, direction)?;
            let (waiting, dead_letters) = (state.waiting.into(), dead_letters.into());
            Ok(QueueRecord { direction, waiting, dead_letters, paused: paused_since.is_some(), paused_since })
        };
        DIRECTIONS.into_iter().map(queue).collect()
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
        let set = std::env::var(CONTACT_HASH_KEY).ok().and_then(|key| ContactHashKey::new(&key));
        match set {
            Some(key) => Ok(Some(key)),
            None => Ok(ContactHashKey::new(&self.folder.contact_hash_key()?)),
        }
    }
}

/// What is told of a delivery that was found.
pub(crate) fn record(found: Found) -> DeliveryRecord {
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
        next_attempt_at: found.next_at,
        settled_at: found.settled_at,
        dropped_at: None,
        failures: Vec::new(),
    }
}
