//! The store of a running relay: queues and ledger in one SQLite file.
//!
//! One table holds every delivery from its arrival on. A delivered one stays, without its body, as the ledger. Every change
//! is one transaction that is on the disk before it is acknowledged (`synchronous = FULL`), so the process may be killed at
//! any moment: an acknowledged delivery is not lost, and one that is recorded as delivered is never sent again.
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
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::admin::queries::{self, Backlog};
use crate::contact_locks::ContactLocks;
use crate::schema::Connections;
use crate::store_files::StoreFiles;

/// How long the health check may wait for other writes and take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two truncations of the write-ahead log: how long a body stays there at most once it is delivered.
const TRUNCATE_INTERVAL: Duration = Duration::from_secs(5);

/// The store of a running relay.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pub(crate) writer: Arc<Mutex<Connection>>,
    /// A second connection, so that reads do not wait for writes.
    pub(crate) reader: Arc<Mutex<Connection>>,
    pub(crate) files: Arc<StoreFiles>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) work_available: Arc<Notify>,
    pub(crate) locks: Arc<ContactLocks>,
    pub(crate) release_epoch: Arc<AtomicU64>,
    pub(crate) contact_hash_key: Option<ContactHashKey>,
}

impl SqliteStore {
    /// Returns a store on an [open](crate::open) file.
    pub fn new(connections: Connections, clock: Arc<dyn Clock>) -> Self {
        Self {
            writer: Arc::new(Mutex::new(connections.writer)),
            reader: Arc::new(Mutex::new(connections.reader)),
            files: Arc::new(connections.files),
            clock,
            work_available: Arc::new(Notify::new()),
            locks: Arc::default(),
            release_epoch: Arc::default(),
            contact_hash_key: None,
        }
    }

    /// Sets the key to hash contacts with, by which an operator finds their deliveries.
    pub fn with_contact_hash_key(self, contact_hash_key: Option<ContactHashKey>) -> Self {
        Self { contact_hash_key, ..self }
    }

    pub(crate) fn contact_hash(&self, delivery: &Delivery) -> Option<String> {
        self.contact_hash_key.as_ref().map(|key| delivery.contact.log_hash(key))
    }

    /// Waits until a delivery may have become due.
    pub async fn wait_for_work(&self) {
        self.work_available.notified().await;
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
        let files = Arc::clone(&self.files);
        // The store itself may have room left in its log, and none for what comes.
        let has_room = tokio::task::spawn_blocking(move || write_scratch_file(files.dir()));
        has_room.await.map_err(StoreError::new)?.map_err(StoreError::new)?;
        self.write_within(HEALTH_TIMEOUT, |transaction| {
            // Writes the value that is there already.
            let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            transaction.pragma_update(None, "user_version", version)
        })
        .await
    }

    /// Empties the write-ahead log again and again, because bodies that were delivered stay in it until then. Never returns.
    pub async fn run_log_truncation(self) {
        loop {
            tokio::time::sleep(TRUNCATE_INTERVAL).await;
            // Readers or an operator's command may hold it up: the next time will do.
            let _ = self.truncate_log().await;
        }
    }

    /// Moves what is in the write-ahead log to the file, unless that was done since the last write.
    async fn truncate_log(&self) -> Result<(), StoreError> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let files = Arc::clone(&self.files);
        let task = tokio::task::spawn_blocking(move || {
            files.forget_lengths();
            let log = writer.path().map(|path| Path::new(path).with_extension("db-wal"));
            let log_bytes = log.and_then(|log| std::fs::metadata(log).ok()).map_or(0, |metadata| metadata.len());
            if log_bytes == 0 { Ok(()) } else { writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) }
        });
        join(task.await)
    }

    /// Runs one transaction, off the threads that serve requests. Transactions run in the order of the calls.
    ///
    /// It does not ask whether the files are still there: what waits is delivered from files that are gone, too.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        run_transaction(Arc::clone(&self.writer).lock_owned().await, || Ok(()), work).await
    }

    /// Runs one transaction like [`write`](Self::write) that a caller is told of. It fails and does nothing if other writes
    /// take too long, or the files are gone. If they go while it runs, it fails as well.
    pub(crate) async fn write_within<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = tokio::time::timeout(timeout, Arc::clone(&self.writer).lock_owned()).await;
        let (writer, files) =
            (writer.map_err(|_| StoreError::new("too many writes are waiting"))?, Arc::clone(&self.files));
        run_transaction(writer, move || files.check(), work).await
    }

    /// Runs queries that do not write.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.reader).lock_owned().await;
        join(tokio::task::spawn_blocking(move || work(&connection)).await)
    }
}

/// Runs one transaction between two checks: one before it, and one after its commit.
async fn run_transaction<T: Send + 'static>(
    mut connection: OwnedMutexGuard<Connection>,
    check: impl Fn() -> Result<(), StoreError> + Send + 'static,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let task = tokio::task::spawn_blocking(move || {
        check()?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::new)?;
        let value = work(&transaction).map_err(StoreError::new)?;
        transaction.commit().map_err(StoreError::new)?;
        check()?;
        Ok(value)
    });
    task.await.map_err(StoreError::new)?
}

fn join<T>(joined: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> Result<T, StoreError> {
    joined.map_err(StoreError::new)?.map_err(StoreError::new)
}

/// Writes as much as the largest request has, into a file without a name that is gone at once.
fn write_scratch_file(dir: &Path) -> io::Result<()> {
    tempfile::tempfile_in(dir)?.write_all(&[0; MAX_REQUEST_BYTES])
}
