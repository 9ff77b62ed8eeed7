//! Group commit: the changes that wait when the connection is free go into one transaction, so one `fsync` serves them all.
//!
//! Changes run in the order in which they were submitted. The caller of each is answered after the commit that holds it. A
//! change that fails is undone alone.
//!
//! See docs/adr/0007-one-sqlite-table.md.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relay::ports::queue::StoreError;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::durability::change::{Change, Submitted, WriteOptions};
use crate::durability::store_files::{self, StoreFiles};
use crate::schema::BUSY_TIMEOUT;

/// Maximum number of changes in a transaction, so that the first one does not wait for all that can come.
const MAX_BATCH: usize = 256;

/// The connection that writes, and what waits for it.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Mutex<Connection>,
    files: StoreFiles,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: VecDeque<Box<dyn Change>>,
    /// How the log is to end, and who waits for that.
    log_ends: Vec<(LogEnd, oneshot::Sender<Result<bool, StoreError>>)>,
    /// Whether a thread is writing. It goes on until nothing waits.
    is_writing: bool,
}

/// What becomes of a log that was moved to the file of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LogEnd {
    /// The next write overwrites its start.
    Restart,
    /// Its file is emptied.
    Truncate,
}

impl LogEnd {
    const fn pragma(self) -> &'static str {
        match self {
            Self::Restart => "PRAGMA wal_checkpoint(RESTART)",
            Self::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        }
    }
}

/// A transaction was not committed, with all changes in it.
#[derive(Debug, Clone, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    #[error("SQLite has undone the transaction because of another change in it")]
    Undone,
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl Writer {
    pub(crate) fn new(connection: Connection, files: StoreFiles) -> Self {
        Self { connection: Mutex::new(connection), files, waiting: Mutex::default() }
    }

    pub(crate) fn files(&self) -> &StoreFiles {
        &self.files
    }

    /// Runs a change and returns its result after the commit.
    ///
    /// # Errors
    /// If the change fails, is not committed, or does not get its turn in time: nothing is changed then. If the files have
    /// gone while it ran.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        options: WriteOptions,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let is_taken = Arc::new(AtomicBool::new(false));
        let (reply, mut answer) = oneshot::channel();
        let change = Submitted::new(options, Arc::clone(&is_taken), work, reply);
        self.submit(|waiting| waiting.changes.push_back(Box::new(change)));
        if let Some(timeout) = options.timeout {
            match tokio::time::timeout(timeout, &mut answer).await {
                Ok(answer) => return answer.map_err(StoreError::new)?,
                Err(_) if is_taken.swap(true, Ordering::SeqCst) => {}
                Err(_) => return Err(StoreError::new("too many writes are waiting")),
            }
        }
        answer.await.map_err(StoreError::new)?
    }

    /// Moves the write-ahead log to the file, and ends it. Other writes wait meanwhile. Returns false if somebody is reading
    /// the log: it is left as it is then.
    pub(crate) async fn end_log(self: &Arc<Self>, end: LogEnd) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.submit(|waiting| waiting.log_ends.push((end, reply)));
        answer.await.map_err(StoreError::new)?
    }

    fn submit(self: &Arc<Self>, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = lock(&self.waiting);
        add(&mut waiting);
        if !waiting.is_writing {
            waiting.is_writing = true;
            let writer = Arc::clone(self);
            tokio::task::spawn_blocking(move || writer.run());
        }
    }

    /// Writes until nothing waits.
    fn run(&self) {
        let mut connection = lock(&self.connection);
        loop {
            let (has_changes, log_ends) = {
                let mut waiting = lock(&self.waiting);
                if waiting.changes.is_empty() && waiting.log_ends.is_empty() {
                    waiting.is_writing = false;
                    return;
                }
                (!waiting.changes.is_empty(), std::mem::take(&mut waiting.log_ends))
            };
            if has_changes {
                self.write_batch(&mut connection);
            }
            for (end, reply) in log_ends {
                // A caller that is gone needs no answer.
                let _ = reply.send(self.end_log_now(&connection, end));
            }
        }
    }

    /// Runs changes in one transaction, and answers their callers.
    fn write_batch(&self, connection: &mut Connection) {
        let begun = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            // Another program is writing: they wait on, each for as long as it may.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => return,
            begun => begun.map_err(CommitError::from),
        };
        let mut changes = self.take_batch();
        if !self.finds_files_of(&changes) {
            let refused = changes.extract_if(.., |change| change.options().checks_files);
            refused.for_each(|change| change.answer(Err(store_files::gone())));
        }
        let committed = begun.and_then(|transaction| commit(transaction, &mut changes));
        let has_files = self.finds_files_of(&changes);
        for change in changes {
            let committed = committed.clone().map_err(StoreError::new);
            let is_lost = !has_files && change.options().checks_files;
            change.answer(if is_lost { committed.and(Err(store_files::gone())) } else { committed });
        }
    }

    /// Whether the files are there, if one of these changes asks.
    fn finds_files_of(&self, changes: &[Box<dyn Change>]) -> bool {
        !changes.iter().any(|change| change.options().checks_files) || self.files.check().is_ok()
    }

    /// Takes the changes of the next transaction out of their callers' hands.
    fn take_batch(&self) -> Vec<Box<dyn Change>> {
        let mut waiting = lock(&self.waiting);
        let next_first = waiting.changes.iter().skip(1).position(|change| change.options().is_first);
        let count = next_first.map_or(waiting.changes.len(), |index| index + 1).min(MAX_BATCH);
        waiting.changes.drain(..count).filter(|change| change.take()).collect()
    }

    fn end_log_now(&self, connection: &Connection, end: LogEnd) -> Result<bool, StoreError> {
        self.files.forget_lengths();
        // Nothing waits for a reader.
        connection.busy_timeout(Duration::ZERO).map_err(StoreError::new)?;
        let is_busy = connection.query_row(end.pragma(), [], |row| row.get::<_, bool>(0));
        connection.busy_timeout(BUSY_TIMEOUT).map_err(StoreError::new)?;
        // Somebody may have checked the files meanwhile.
        self.files.forget_lengths();
        is_busy.map(|is_busy| !is_busy).map_err(StoreError::new)
    }
}

/// Runs changes in a transaction, and commits it. Each that fails is undone.
fn commit(transaction: Transaction<'_>, changes: &mut [Box<dyn Change>]) -> Result<(), CommitError> {
    let is_alone = changes.len() == 1;
    let execute = |sql| transaction.prepare_cached(sql)?.execute([]).map(drop);
    for change in changes {
        let has_savepoint = !is_alone && !change.options().is_one_statement;
        if has_savepoint {
            execute("SAVEPOINT change")?;
        }
        let is_done = change.run(&transaction);
        if transaction.is_autocommit() {
            return Err(CommitError::Undone);
        }
        if !is_done && is_alone {
            return Ok(transaction.rollback()?);
        }
        if !is_done && has_savepoint {
            execute("ROLLBACK TO change")?;
        }
        if has_savepoint {
            execute("RELEASE change")?;
        }
    }
    // Not `Transaction::commit`, which prepares its statement each time.
    Ok(execute("COMMIT")?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    /// A store with one table, and a reader beside the writer.
    struct Store {
        writer: Arc<Writer>,
        reader: Connection,
        _folder: tempfile::TempDir,
    }

    impl Store {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("relay.db");
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, "journal_mode", "WAL").unwrap();
            connection.execute_batch("CREATE TABLE numbers (number INTEGER)").unwrap();
            let writer = Arc::new(Writer::new(connection, StoreFiles::note(&path)));
            Self { writer, reader: Connection::open(&path).unwrap(), _folder: folder }
        }

        fn committed(&self) -> Vec<i64> {
            numbers(&self.reader)
        }

        /// Keeps the writer busy, until the sender is dropped.
        async fn occupy(&self) -> mpsc::Sender<()> {
            let (release, released) = mpsc::channel::<()>();
            let (begin, begun) = oneshot::channel();
            let writer = Arc::clone(&self.writer);
            tokio::spawn(async move {
                let wait = move |_: &Transaction<'_>| {
                    begin.send(()).unwrap();
                    let _ = released.recv();
                    Ok(())
                };
                writer.write(WriteOptions::default(), wait).await
            });
            begun.await.unwrap();
            release
        }

        /// Submits a change that adds a number and then does something else.
        fn add<T: Send + 'static>(
            &self,
            number: i64,
            then: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        ) -> impl Future<Output = Result<T, StoreError>> {
            let writer = Arc::clone(&self.writer);
            let mut change = Box::pin(async move {
                let add = move |transaction: &Transaction<'_>| {
                    transaction.execute("INSERT INTO numbers VALUES (?1)", [number])?;
                    then(transaction)
                };
                writer.write(WriteOptions::default(), add).await
            });
            // The first poll submits it.
            assert!(change.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            change
        }
    }

    fn numbers(connection: &Connection) -> Vec<i64> {
        let mut statement = connection.prepare("SELECT number FROM numbers ORDER BY rowid").unwrap();
        let numbers = statement.query_map([], |row| row.get(0)).unwrap();
        numbers.collect::<Result<_, _>>().unwrap()
    }

    #[tokio::test]
    async fn changes_that_wait_share_a_transaction_in_order() {
        let store = Store::new();
        let busy = store.occupy().await;
        let path = store.reader.path().unwrap().to_owned();
        let first = store.add(1, |_| Ok(()));
        let second = store.add(2, move |transaction| Ok((numbers(transaction), numbers(&Connection::open(path)?))));
        drop(busy);
        first.await.unwrap();
        assert_eq!(second.await.unwrap(), (vec![1, 2], vec![]), "the first one is not committed yet");
        assert_eq!(store.committed(), [1, 2]);
    }

    #[tokio::test]
    async fn change_that_fails_or_panics_is_undone_alone() {
        let store = Store::new();
        let busy = store.occupy().await;
        let first = store.add(1, |_| Ok(()));
        let failing = store.add(2, |_| Err::<(), _>(rusqlite::Error::InvalidQuery));
        let panicking = store.add(3, |_| -> rusqlite::Result<()> { panic!("on purpose") });
        let last = store.add(4, |_| Ok(()));
        drop(busy);
        first.await.unwrap();
        failing.await.unwrap_err();
        panicking.await.unwrap_err();
        last.await.unwrap();
        assert_eq!(store.committed(), [1, 4]);
    }

    #[tokio::test]
    async fn single_change_that_fails_is_undone() {
        let store = Store::new();
        store.add(1, |_| Err::<(), _>(rusqlite::Error::InvalidQuery)).await.unwrap_err();
        store.add(2, |_| Ok(())).await.unwrap();
        assert_eq!(store.committed(), [2]);
    }

    #[tokio::test]
    async fn change_whose_turn_does_not_come_in_time_is_not_made() {
        let store = Store::new();
        let busy = store.occupy().await;
        let options = WriteOptions { timeout: Some(Duration::from_millis(1)), ..WriteOptions::default() };
        let add = |transaction: &Transaction<'_>| transaction.execute("INSERT INTO numbers VALUES (1)", []);
        store.writer.write(options, add).await.unwrap_err();
        drop(busy);
        store.add(2, |_| Ok(())).await.unwrap();
        assert_eq!(store.committed(), [2]);
    }

    #[tokio::test]
    async fn change_whose_caller_is_gone_is_made_all_the_same() {
        let store = Store::new();
        let busy = store.occupy().await;
        drop(store.add(1, |_| Ok(())));
        drop(busy);
        store.add(2, |_| Ok(())).await.unwrap();
        assert_eq!(store.committed(), [1, 2]);
    }
}
