//! Whether the files of the open store are still where they were opened.
//!
//! A file that is deleted, moved or replaced stays open: SQLite goes on writing to it, and what it takes is gone at the
//! next start. SQLite has a check of its own (`SQLITE_FCNTL_HAS_MOVED`), which it does not make in WAL mode.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use relay::ports::queue::StoreError;
use tracing::error;

/// The files of an open store: the database, its write-ahead log, and the index of that log.
const EXTENSIONS: [&str; 3] = ["db", "db-wal", "db-shm"];
/// Time between two log lines while a file is gone.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The files of an open store.
#[derive(Debug)]
pub(crate) struct StoreFiles {
    opened: Vec<(PathBuf, FileId)>,
    last_logged: Mutex<Option<Instant>>,
}

/// Device and inode, which a file keeps while it is open.
type FileId = (u64, u64);

impl StoreFiles {
    /// Notes the files of a store that was opened at this path just now.
    pub(crate) fn note(path: &Path) -> Self {
        let paths = EXTENSIONS.map(|extension| path.with_extension(extension));
        let opened = paths.into_iter().filter_map(|path| file_id(&path).map(|id| (path, id)));
        Self { opened: opened.collect(), last_logged: Mutex::default() }
    }

    /// Returns the folder of the store.
    pub(crate) fn dir(&self) -> &Path {
        self.opened.first().and_then(|(path, _)| path.parent()).unwrap_or(Path::new("."))
    }

    /// Checks that every file is where it was. The log has a line when one is not, and again every minute.
    ///
    /// # Errors
    /// If a file is gone, or another one is in its place.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let moved = self.opened.iter().find(|(path, opened)| file_id(path) != Some(*opened));
        let Some((path, _)) = moved else { return Ok(()) };
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *last_logged = Some(Instant::now());
            let path = path.display();
            error!(%path, "a file of the store was deleted, moved or replaced, so nothing is taken: put it back, or restart relay-local to begin with what is there now; what waited is still delivered");
        }
        Err(StoreError::new("a file of the store is gone"))
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
}
