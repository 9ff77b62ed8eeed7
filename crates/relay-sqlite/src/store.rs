//! The store of a running relay: queues and ledger in one SQLite file.
//!
//! One table holds every delivery from its arrival on. A delivered one stays, without its body, as the ledger. Every change
//! is on the disk before it is acknowledged (`synchronous = FULL`), so the process may be killed at any moment: an
//! acknowledged delivery is not lost, and one that is recorded as delivered is never sent again.
//!
//! See docs/adr/0007-one-sqlite-table.md.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use relay::ports::clock::Clock;
use relay::ports::queue::StoreError;
use relay::routes::MAX_REQUEST_BYTES;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{Delivery, Direction};
use rusqlite::{Connection, Transaction};
use tokio::sync::{Mutex, Notify};

use crate::admin::queries::{self, Backlog};
use crate::delivery_row::NewRow;
use crate::durability::change::WriteOptions;
use crate::durability::write_ahead_log::WriteAheadLog;
use crate::durability::writer::Writer;
use crate::intake::contact_locks::ContactLocks;
use crate::schema::Connections;

/// How long the health check may wait for other writes and take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of deliveries that one transaction releases or deletes: other writes wait for it.
pub(crate) const STEP_SIZE: u16 = 500;

/// The store of a running relay.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pub(crate) writer: Arc<Writer>,
    /// A second connection, so that reads do not wait for writes.
    reader: Arc<Mutex<Connection>>,
    pub(crate) log: Arc<WriteAheadLog>,
    pub(crate) clock: Arc<dyn Clock>,
    work_signals: Arc<WorkSignals>,
    pub(crate) locks: Arc<ContactLocks>,
    pub(crate) release_epoch: Arc<AtomicU64>,
    contact_hash_key: Option<ContactHashKey>,
}

/// What wakes the worker of each direction.
#[derive(Debug, Default)]
struct WorkSignals {
    loops_to_clay: Notify,
    clay_to_loops: Notify,
}

impl WorkSignals {
    fn of(&self, direction: Direction) -> &Notify {
        match direction {
            Direction::LoopsToClay => &self.loops_to_clay,
            Direction::ClayToLoops => &self.clay_to_loops,
        }
    }
}

impl SqliteStore {
    /// Returns a store on an [open](crate::open) file.
    pub fn new(connections: Connections, clock: Arc<dyn Clock>) -> Self {
        Self {
            writer: Arc::new(Writer::new(connections.writer, connections.files)),
            reader: Arc::new(Mutex::new(connections.reader)),
            log: Arc::new(WriteAheadLog::new(connections.checkpointer)),
            clock,
            work_signals: Arc::default(),
            locks: Arc::default(),
            release_epoch: Arc::default(),
            contact_hash_key: None,
        }
    }

    /// Sets the key to hash contacts with, by which an operator finds their deliveries.
    pub fn with_contact_hash_key(self, contact_hash_key: Option<ContactHashKey>) -> Self {
        Self { contact_hash_key, ..self }
    }

    pub(crate) fn new_row(&self, delivery: &Delivery) -> NewRow {
        NewRow::new(delivery.clone(), self.contact_hash_key.as_ref().map(|key| delivery.contact.log_hash(key)))
    }

    /// Waits until a delivery of a direction may have become due. One worker waits at a time.
    pub async fn wait_for_work(&self, direction: Direction) {
        self.work_signals.of(direction).notified().await;
    }

    pub(crate) fn signal_work(&self, direction: Direction) {
        self.work_signals.of(direction).notify_one();
    }

    /// Returns the clock of the store.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Returns the deliveries of a direction that wait.
    pub async fn backlog(&self, direction: Direction) -> Result<Backlog, StoreError> {
        self.read(move |connection| queries::backlog(connection, direction)).await
    }

    /// Checks that a delivery could be stored now: the files are where they were, can be written, and have room.
    pub async fn check_health(&self) -> Result<(), StoreError> {
        let writer = Arc::clone(&self.writer);
        // The store itself may have room left in its log, and none for what comes.
        let has_room = tokio::task::spawn_blocking(move || write_scratch_file(writer.files().dir()));
        has_room.await.map_err(StoreError::new)?.map_err(StoreError::new)?;
        self.write_within(HEALTH_TIMEOUT, |transaction| {
            // Writes the value that is there already.
            let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            transaction.pragma_update(None, "user_version", version)
        })
        .await
    }

    /// Keeps the write-ahead log short, because bodies that were delivered stay in it until it is emptied. Never returns.
    pub async fn run_log_truncation(self) {
        self.log.keep_short(self.writer).await;
    }

    /// Runs one change, off the threads that serve requests.
    ///
    /// It does not ask whether the files are still there: what waits is delivered from files that are gone, too.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(WriteOptions::default(), work).await
    }

    /// Runs one change like [`write`](Self::write) that a caller is told of. It fails and does nothing if other writes
    /// take too long, or the files are gone. If they go while it runs, it fails as well.
    pub(crate) async fn write_within<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let options = WriteOptions { timeout: Some(timeout), checks_files: true, ..WriteOptions::default() };
        self.writer.write(options, work).await
    }

    /// Runs queries that do not write.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.reader).lock_owned().await;
        let task = tokio::task::spawn_blocking(move || work(&connection));
        task.await.map_err(StoreError::new)?.map_err(StoreError::new)
    }
}

/// Writes as much as the largest request has, into a file without a name that is gone at once.
fn write_scratch_file(dir: &Path) -> io::Result<()> {
    tempfile::tempfile_in(dir)?.write_all(&[0; MAX_REQUEST_BYTES])
}
