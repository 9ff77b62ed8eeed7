//! The embedded store: queues and ledger in one SQLite file.
//!
//! One table holds every delivery from its arrival to its end, and after that stays, without its body, as the ledger of
//! what is done. Every change is one transaction that is on the disk before anybody is told (`synchronous = FULL`), so
//! the process may be killed at any moment: what was acknowledged is there, and what was recorded as delivered is never
//! sent again.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::queue::StoreError;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{Delivery, Direction};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::admin::queries::{self, Backlog};
use crate::contact_locks::ContactLocks;
use crate::schema::{Connections, STORE_FILE};

/// How long the health check may wait for other writes and take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// The store of a running relay.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) writer: Arc<Mutex<Connection>>,
    /// Reads go past whoever writes.
    pub(crate) reader: Arc<Mutex<Connection>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) work_available: Arc<Notify>,
    pub(crate) locks: Arc<ContactLocks>,
    /// How often a person has mended what deliveries were held for.
    pub(crate) release_epoch: Arc<AtomicU64>,
    pub(crate) contact_hash_key: Option<ContactHashKey>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteStore")
    }
}

impl SqliteStore {
    /// A store on an [open](crate::open) file.
    #[must_use]
    pub fn new(connections: Connections, clock: Arc<dyn Clock>) -> Self {
        Self {
            writer: Arc::new(Mutex::new(connections.writer)),
            reader: Arc::new(Mutex::new(connections.reader)),
            clock,
            work_available: Arc::new(Notify::new()),
            locks: Arc::default(),
            release_epoch: Arc::default(),
            contact_hash_key: None,
        }
    }

    /// The same, and whom a delivery is about is in it as a hash under this key, by which a person can look for it.
    #[must_use]
    pub fn with_contact_hash_key(self, contact_hash_key: Option<ContactHashKey>) -> Self {
        Self { contact_hash_key, ..self }
    }

    pub(crate) fn contact_hash(&self, delivery: &Delivery) -> Option<String> {
        self.contact_hash_key.as_ref().map(|key| delivery.contact.log_hash(key))
    }

    /// Resolves when something may have become deliverable since the last call.
    pub async fn wait_for_work(&self) {
        self.work_available.notified().await;
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A random number from 0 to 1.
    #[must_use]
    pub fn random(&self) -> f64 {
        self.clock.random()
    }

    /// Returns the deliveries of a direction that wait.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn backlog(&self, direction: Direction) -> Result<Backlog, StoreError> {
        self.read(move |connection| queries::backlog(connection, direction)).await
    }

    /// Checks that a delivery could be stored now: the file is where it was, and can be written.
    ///
    /// # Errors
    /// If it could not.
    pub async fn check_health(&self) -> Result<(), StoreError> {
        self.write_within(HEALTH_TIMEOUT, |transaction| {
            // Writes to a file that was deleted are lost when the process ends.
            let path = transaction.path().map(std::path::PathBuf::from).unwrap_or_default();
            if !path.exists() {
                let missing = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
                return Err(rusqlite::Error::SqliteFailure(missing, Some(format!("{STORE_FILE} is gone"))));
            }
            // Writes the value that is there already.
            let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            transaction.pragma_update(None, "user_version", version)
        })
        .await
    }

    /// Runs one transaction, off the threads that serve requests, in the order of the calls; however long it takes to
    /// have the turn.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        run_transaction(Arc::clone(&self.writer).lock_owned().await, work).await
    }

    /// The same for a caller who waits: who does not have the turn in time has a fault, and nothing was done.
    pub(crate) async fn write_within<T, F>(&self, timeout: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let writer = tokio::time::timeout(timeout, Arc::clone(&self.writer).lock_owned()).await;
        run_transaction(writer.map_err(|_| StoreError::new("too many writes are waiting"))?, work).await
    }

    /// Runs queries that write nothing.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.reader).lock_owned().await;
        join(tokio::task::spawn_blocking(move || work(&connection)).await)
    }
}

async fn run_transaction<T, F>(mut connection: OwnedMutexGuard<Connection>, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
{
    let task = tokio::task::spawn_blocking(move || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    });
    join(task.await)
}

fn join<T>(joined: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> Result<T, StoreError> {
    joined.map_err(StoreError::new)?.map_err(StoreError::new)
}
