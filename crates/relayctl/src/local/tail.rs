//! What happens to the deliveries of a data folder, as its store has it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::store::{self, DeliveryState, StoreQuery};
use rusqlite::Connection;

use crate::error::Error;
use crate::operations::local;
use crate::operations::record::DeliveryChange;

/// What is looked at twice, so that nothing falls between two looks.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// A look at the store that goes on where the last one ended.
#[derive(Debug)]
pub struct StoreTail {
    connection: Connection,
    last_poll: Timestamp,
    /// How each delivery that may still be found stood at the last look.
    snapshots: BTreeMap<String, Snapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    state: DeliveryState,
    attempts: u32,
    reason: Option<String>,
    status: Option<u16>,
}

impl StoreTail {
    /// A look at what happens from then on.
    ///
    /// # Errors
    /// When there is no store, or it cannot be read.
    pub fn open(data_dir: &DataDir, since: Timestamp) -> Result<Self, Error> {
        let connection = local::open_store(data_dir)?;
        let mut tail = Self { connection, last_poll: since, snapshots: BTreeMap::new() };
        // What was so before is no news.
        tail.poll()?;
        Ok(tail)
    }

    /// What has happened since the last look.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn poll(&mut self) -> Result<Vec<DeliveryChange>, Error> {
        let now = Timestamp::now();
        let search = StoreQuery { since: self.last_poll.checked_sub(OVERLAP).ok(), ..StoreQuery::default() };
        let previous = std::mem::take(&mut self.snapshots);
        let mut changes = Vec::new();
        for found in store::query(&self.connection, &search)? {
            let record = local::delivery_record(found);
            let snapshot = Snapshot {
                state: record.state,
                attempts: record.attempts,
                reason: record.reason.clone(),
                status: record.status,
            };
            if previous.get(&record.id) != Some(&snapshot) {
                changes.push(DeliveryChange {
                    at: record.settled_at.unwrap_or(now),
                    direction: record.direction.as_str().to_owned(),
                    id: record.id.clone(),
                    state: record.state,
                    reason: record.reason,
                    status: record.status,
                    attempts: Some(record.attempts),
                    webhook_id: record.webhook_id,
                });
            }
            self.snapshots.insert(record.id, snapshot);
        }
        self.last_poll = now;
        changes.sort_by_key(|change| change.at);
        Ok(changes)
    }
}
