//! Keeps the write-ahead log short. What is in it is moved to the file beside the writes, on a connection of its own; only
//! the last part, with the log's end, is done between two of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relay::ports::queue::StoreError;
use rusqlite::Connection;
use tokio::time::Instant;

use crate::durability::writer::Writer;

/// Time between two looks at the log.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time that a body stays in the log once it is delivered, if nobody reads the log.
const MAX_LOG_AGE: Duration = Duration::from_secs(5);
/// Length at which the log is emptied earlier, in bytes.
const MAX_LOG_BYTES: u64 = 32 * 1024 * 1024;
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
            let bytes = std::fs::metadata(&self.path).map_or(0, |log| log.len());
            if bytes == 0 && is_old {
                // Another program may have emptied it.
                writer.files().forget_lengths();
                emptied_at = Instant::now();
            } else if (is_old || bytes > MAX_LOG_BYTES) && self.empty(&writer).await.unwrap_or(false) {
                emptied_at = Instant::now();
            }
        }
    }

    /// Returns false if a reader or an operator's command holds it up.
    async fn empty(self: &Arc<Self>, writer: &Arc<Writer>) -> Result<bool, StoreError> {
        let log = Arc::clone(self);
        let moving = tokio::task::spawn_blocking(move || log.move_to_file());
        moving.await.map_err(StoreError::new)?.map_err(StoreError::new)?;
        writer.truncate_log().await
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
        store.log.empty(&store.writer).await.unwrap();
        assert!(store.backlog(Direction::LoopsToClay).await.is_ok());
        std::fs::metadata(path.with_extension("db-wal")).unwrap().len()
    }

    #[tokio::test]
    async fn log_is_emptied() {
        assert_eq!(length_when_emptied(|_| ()).await, 0);
    }

    #[tokio::test]
    async fn log_that_is_being_read_is_left_without_a_wait() {
        let read = |connection: &Connection| {
            connection.execute_batch("BEGIN; SELECT count(*) FROM deliveries;").unwrap();
        };
        assert!(length_when_emptied(read).await > 0);
    }
}
