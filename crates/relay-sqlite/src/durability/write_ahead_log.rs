//! Keeps the write-ahead log short. What is in it is moved to the file beside the writes, on a connection of its own; only
//! the last part, with the log's end, is done between two of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relay::ports::queue::StoreError;
use rusqlite::Connection;
use tokio::time::Instant;

use crate::durability::writer::{LogEnd, Writer};

/// Time between two looks at the log.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time that a body stays in the log once it is delivered, if nobody reads the log.
const MAX_LOG_AGE: Duration = Duration::from_secs(5);
/// Number of pages after which the log begins again at its start. Its file stays as long as it is, because a write into it
/// is faster than one behind its end: the length of the file need not be written with it.
const MAX_LOG_PAGES: i64 = 4096;
/// Number of pages that may be left for the end, while other writes wait.
const MAX_PAGES_LEFT: i64 = 256;
/// Maximum number of times that the log is moved beside the writes. Each takes as long as the writes of the last one need.
const MAX_PASSES: usize = 4;

/// The write-ahead log of an open store.
#[derive(Debug)]
pub(crate) struct WriteAheadLog {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl WriteAheadLog {
    pub(crate) fn new(connection: Connection) -> Self {
        let path = connection.path().map(|path| PathBuf::from(path).with_extension("db-wal")).unwrap_or_default();
        Self { connection: Mutex::new(connection), path }
    }

    /// Empties the log again and again. Never returns.
    pub(crate) async fn keep_short(self: Arc<Self>, writer: Arc<Writer>) {
        let mut emptied_at = Instant::now();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let is_old = emptied_at.elapsed() >= MAX_LOG_AGE;
            let is_empty = std::fs::metadata(&self.path).is_ok_and(|log| log.len() == 0);
            if is_empty && is_old {
                // Another program may have emptied it.
                writer.files().forget_lengths();
                emptied_at = Instant::now();
            } else if is_old && self.end(&writer, LogEnd::Truncate).await.unwrap_or(false) {
                emptied_at = Instant::now();
            } else if !is_empty && self.pages_to_move().is_ok_and(|pages| pages > MAX_LOG_PAGES) {
                // The next look comes soon, if a reader or an operator's command holds it up.
                let _ = self.end(&writer, LogEnd::Restart).await;
            }
        }
    }

    /// Moves what is in the log to the file, and ends the log. Returns false if a reader or an operator's command holds it up.
    async fn end(self: &Arc<Self>, writer: &Arc<Writer>, end: LogEnd) -> Result<bool, StoreError> {
        let log = Arc::clone(self);
        let moving = tokio::task::spawn_blocking(move || log.move_to_file());
        moving.await.map_err(StoreError::new)?.map_err(StoreError::new)?;
        writer.end_log(end).await
    }

    /// Returns how many pages are in the log and not in the file.
    fn pages_to_move(&self) -> rusqlite::Result<i64> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
            let (written, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(written - moved)
        })
    }

    /// Moves what is in the log to the file. The writes go on meanwhile, so it is done again until little has come.
    fn move_to_file(&self) -> rusqlite::Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved_before = 0;
        for _ in 0..MAX_PASSES {
            let moved: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))?;
            if moved - moved_before <= MAX_PAGES_LEFT {
                break;
            }
            moved_before = moved;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use relay::ports::clock::SystemClock;
    use relay_core::delivery::Direction;

    use crate::schema::open;
    use crate::store::SqliteStore;

    use super::*;

    /// Returns the length of the log after a write and an attempt to empty it, while `reader` does something.
    async fn length_when_emptied(reader: impl FnOnce(&Connection)) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(open(dir.path(), Timestamp::UNIX_EPOCH).unwrap(), Arc::new(SystemClock));
        let path = dir.path().join("relay.db");
        let connection = Connection::open(&path).unwrap();
        reader(&connection);
        store.write(|transaction| transaction.execute("DELETE FROM paused", [])).await.unwrap();
        store.write(|transaction| transaction.execute("INSERT INTO paused VALUES ('x', 1)", [])).await.unwrap();
        store.log.end(&store.writer, LogEnd::Truncate).await.unwrap();
        assert!(store.backlog(Direction::LoopsToClay).await.is_ok());
        std::fs::metadata(path.with_extension("db-wal")).unwrap().len()
    }

    #[tokio::test]
    async fn log_is_emptied() {
        assert_eq!(length_when_emptied(|_| ()).await, 0);
    }

    #[tokio::test]
    async fn log_that_restarts_is_overwritten_and_keeps_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(open(dir.path(), Timestamp::UNIX_EPOCH).unwrap(), Arc::new(SystemClock));
        let log_bytes = || std::fs::metadata(dir.path().join("relay.db-wal")).unwrap().len();
        let pause = |direction| {
            store.write(move |transaction| transaction.execute("INSERT INTO paused VALUES (?1, 1)", [direction]))
        };
        pause("x").await.unwrap();
        let before = (log_bytes(), store.log.pages_to_move().unwrap());
        assert!(before.1 > 1, "{before:?}");
        assert!(store.log.end(&store.writer, LogEnd::Restart).await.unwrap());
        assert_eq!((log_bytes(), store.log.pages_to_move().unwrap()), (before.0, 0));
        pause("y").await.unwrap();
        assert_eq!(log_bytes(), before.0);
        assert!((1..before.1).contains(&store.log.pages_to_move().unwrap()), "{before:?}");
    }

    #[tokio::test]
    async fn log_that_is_being_read_is_left_without_a_wait() {
        let read = |connection: &Connection| {
            connection.execute_batch("BEGIN; SELECT count(*) FROM deliveries;").unwrap();
        };
        assert!(length_when_emptied(read).await > 0);
    }
}
