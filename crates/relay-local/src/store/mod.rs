//! The embedded store: queues and ledger in one SQLite file.
//!
//! One table holds every delivery from its arrival to its end, and after that stays, without its body, as the ledger of
//! what is done. Every change is one transaction that is on the disk before anybody is told (`synchronous = FULL`), so
//! the process may be killed at any moment: what was acknowledged is there, and what was recorded as delivered is never
//! sent again.

mod direct;
mod ledger;
mod open;
mod queue;
mod record;
mod report;
mod worker;

use std::sync::Arc;

use jiff::Timestamp;
use relay::ambient::Ambient;
use relay::store::StoreFault;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Mutex, Notify};

pub use open::{OpenFault, STORE_FILE, open, open_existing};
pub use report::{DeliveryReport, DeliveryState, Filter, list, state_of};
pub use worker::Claimed;

/// The store of a running relay.
#[derive(Clone)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    ambient: Arc<dyn Ambient>,
    arrivals: Arc<Notify>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteStore")
    }
}

impl SqliteStore {
    /// A store on an [open](open()) file.
    #[must_use]
    pub fn new(connection: Connection, ambient: Arc<dyn Ambient>) -> Self {
        Self { connection: Arc::new(Mutex::new(connection)), ambient, arrivals: Arc::new(Notify::new()) }
    }

    /// Resolves when something may have become deliverable since the last call.
    pub async fn arrival(&self) {
        self.arrivals.notified().await;
    }

    fn now(&self) -> Timestamp {
        self.ambient.now()
    }

    /// Runs one transaction, off the threads that serve requests, in the order of the calls.
    async fn transact<T, F>(&self, work: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        flatten(done.await)
    }

    /// Runs queries that write nothing.
    async fn look<T, F>(&self, work: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection).lock_owned().await;
        flatten(tokio::task::spawn_blocking(move || work(&connection)).await)
    }
}

fn flatten<T>(done: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> Result<T, StoreFault> {
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(StoreFault(fault.to_string())),
        Err(fault) => Err(StoreFault(fault.to_string())),
    }
}
