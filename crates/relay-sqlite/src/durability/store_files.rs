//! Whether the files of the open store are still where they were opened.
//!
//! A file that is deleted, moved or replaced stays open: SQLite goes on writing to it, and what it takes is gone at the
//! next start. The same holds for one that somebody cuts. SQLite has a check of its own (`SQLITE_FCNTL_HAS_MOVED`), which it
//! does not make in WAL mode.

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
    /// Lengths at the last check, in bytes. None of the files becomes shorter by itself.
    lengths: Mutex<Vec<u64>>,
    last_logged: Mutex<Option<Instant>>,
}

/// Device and inode, which a file keeps while it is open.
type FileId = (u64, u64);

impl StoreFiles {
    /// Notes the files of a store that was opened at this path just now.
    pub(crate) fn note(path: &Path) -> Self {
        let paths = EXTENSIONS.map(|extension| path.with_extension(extension));
        let opened = paths.into_iter().filter_map(|path| file_id(&path).map(|id| (path, id)));
        Self { opened: opened.collect(), lengths: Mutex::default(), last_logged: Mutex::default() }
    }

    /// Returns the folder of the store.
    pub(crate) fn dir(&self) -> &Path {
        self.opened.first().and_then(|(path, _)| path.parent()).unwrap_or(Path::new("."))
    }

    /// Allows the write-ahead log to be shorter at the next check.
    pub(crate) fn forget_lengths(&self) {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Checks that every file is where it was, and as long as it was. The log has a line when one is not, and again every
    /// minute.
    ///
    /// # Errors
    /// If a file is gone or was cut, or another one is in its place.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let mut lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let mut checked = Vec::with_capacity(self.opened.len());
        for (index, (path, opened)) in self.opened.iter().enumerate() {
            let length =
                fs::metadata(path).ok().filter(|file| (file.dev(), file.ino()) == *opened).map(|file| file.len());
            match length {
                Some(length) if lengths.get(index).is_none_or(|last| length >= *last) => checked.push(length),
                _ => return Err(self.report(path)),
            }
        }
        *lengths = checked;
        Ok(())
    }

    fn report(&self, path: &Path) -> StoreError {
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *last_logged = Some(Instant::now());
            let path = path.display();
            error!(%path, "a file of the store was deleted, moved, replaced or cut, so nothing is taken: put it back, or restart relay-local to begin with what is there now; what waited is still delivered");
        }
        gone()
    }
}

/// The error of a change that cannot be made, or may be lost, because a file is gone.
pub(crate) fn gone() -> StoreError {
    StoreError::new("a file of the store is gone")
}

fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn file_that_became_shorter_is_an_error_until_it_is_whole_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        for extension in EXTENSIONS {
            fs::write(path.with_extension(extension), [0; 100]).unwrap();
        }
        let files = StoreFiles::note(&path);
        files.check().unwrap();
        for extension in EXTENSIONS {
            let file = File::options().write(true).open(path.with_extension(extension)).unwrap();
            file.set_len(99).unwrap();
            assert!(files.check().is_err(), "{extension}");
            file.set_len(200).unwrap();
            files.check().unwrap();
        }
    }

    #[test]
    fn log_that_the_store_has_emptied_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        fs::write(path.with_extension("db-wal"), [0; 100]).unwrap();
        let files = StoreFiles::note(&path);
        files.check().unwrap();
        files.forget_lengths();
        fs::write(path.with_extension("db-wal"), []).unwrap();
        files.check().unwrap();
    }
}
