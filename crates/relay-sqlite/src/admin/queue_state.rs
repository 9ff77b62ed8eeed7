//! How the queues stand, and whether the store is there at all.

use std::time::Duration;

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::delivery::Direction;
use rusqlite::Connection;

use crate::delivery_row;
use crate::store::{STORE_FILE, SqliteStore};

/// The longest that a look at the store's health takes.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// What waits in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// How many deliveries.
    pub waiting: u32,
    /// When the relay took the oldest of them.
    pub oldest_received_at: Option<Timestamp>,
}

/// What waits in a direction.
pub(crate) fn waiting_status(connection: &Connection, direction: Direction) -> rusqlite::Result<QueueStatus> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*), min(received_at) FROM deliveries
         WHERE direction = ?1 AND settled_at IS NULL AND state IN ('waiting', 'sending')",
    )?;
    statement.query_row([direction.as_str()], |row| {
        let oldest_received_at: Option<i64> = row.get(1)?;
        Ok(QueueStatus { waiting: row.get(0)?, oldest_received_at: oldest_received_at.map(delivery_row::timestamp) })
    })
}

impl SqliteStore {
    /// What waits in a direction.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn queue_status(&self, direction: Direction) -> Result<QueueStatus, StoreError> {
        self.read(move |connection| waiting_status(connection, direction)).await
    }

    /// Whether something could be stored now: the file is where it was, and can be written.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_health(&self) -> Result<(), StoreError> {
        self.write_within(HEALTH_TIMEOUT, |transaction| {
            // What is written to a file that was deleted is gone with the process.
            let path = transaction.path().map(std::path::PathBuf::from).unwrap_or_default();
            if !path.exists() {
                let missing = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
                return Err(rusqlite::Error::SqliteFailure(missing, Some(format!("{STORE_FILE} is gone"))));
            }
            // Writes what is there already.
            let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            transaction.pragma_update(None, "user_version", version)
        })
        .await
    }
}
