//! What happens to the deliveries of a data folder, as its store has it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::store::{self, DeliveryState, Search};
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
    looked_at: Timestamp,
    /// How each delivery that may still be found stood at the last look.
    known: BTreeMap<String, Snapshot>,
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
    pub fn open(folder: &DataDir, since: Timestamp) -> Result<Self, Error> {
        let connection = local::open(folder)?;
        let mut tail = Self { connection, looked_at: since, known: BTreeMap::new() };
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
        let search = Search { since: self.looked_at.checked_sub(OVERLAP).ok(), ..Search::default() };
        let before = std::mem::take(&mut self.known);
        let mut changes = Vec::new();
        for found in store::search(&self.connection, &search)? {
            let record = local::record(found);
            let standing = Snapshot {
                state: record.state,
                attempts: record.attempts,
                reason: record.reason.clone(),
                status: record.status,
            };
            if before.get(&record.id) != Some(&standing) {
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
            self.known.insert(record.id, standing);
        }
        self.looked_at = now;
        changes.sort_by_key(|change| change.at);
        Ok(changes)
    }
}
