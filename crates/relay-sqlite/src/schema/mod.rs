//! Opening the store: it is created if there is none, and not touched if it is damaged, of a newer relay, or of another
//! program.

mod migrations;
#[cfg(test)]
mod query_plans;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::data_dir::{DataDir, STORE_FILE};
use crate::delivery_row::end_direct;
use crate::durability::store_files::StoreFiles;
use crate::schema::migrations::{VERSION, is_outdated, upgrade};

/// Marks the file as a relay's (`PRAGMA application_id`): "LCRs".
const APPLICATION_ID: i64 = 0x4c43_5273;
/// Size of the smallest database: one page.
const MIN_FILE_BYTES: u64 = PAGE_BYTES as u64;
/// Number of prepared statements that the connection that writes keeps: more than there are.
const CACHED_STATEMENTS: usize = 64;
/// Maximum wait of a statement for another process to finish writing.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Size of a page of a new store, in bytes. A change of one delivery writes a page of each index, whatever its size is.
const PAGE_BYTES: u32 = 2048;
/// Version of [`TABLES`], from which a new store is upgraded like an old one.
const TABLES_VERSION: i64 = 2;
// No list of values (`IN`), here and in the statements of every delivery: SQLite builds a table in memory for each of more
// than two values and each that is looked up in an index. The two states of what is to be delivered lie side by side in the
// alphabet, so that BETWEEN has them.
const TABLES: &str = "
CREATE TABLE deliveries (
    -- The order of arrival; deliveries of one contact go in this order.
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT    NOT NULL UNIQUE,
    direction       TEXT    NOT NULL,
    -- waiting: for a worker. sending: a worker has it. direct: a caller waits for it. delivered, dead: settled.
    state           TEXT    NOT NULL
        CHECK (state = 'waiting' OR state = 'sending' OR state = 'direct' OR state = 'delivered' OR state = 'dead'),
    contact         TEXT    NOT NULL,
    kind            TEXT    NOT NULL
        CHECK (kind = 'row' OR kind = 'contact' OR kind = 'event' OR kind = 'create' OR kind = 'delete' OR kind = 'email'),
    route           TEXT,
    webhook_id      TEXT,
    idempotency_key TEXT,
    -- Nothing once it is delivered: what is not needed is not kept.
    body            BLOB,
    body_hash       TEXT    NOT NULL,
    -- Times are Unix milliseconds.
    received_at     INTEGER NOT NULL,
    next_at         INTEGER NOT NULL,
    settled_at      INTEGER,
    attempts        INTEGER NOT NULL DEFAULT 0,
    failing_since   INTEGER,
    held_since      INTEGER,
    reason          TEXT,
    status          INTEGER
) STRICT;
CREATE INDEX deliveries_settled ON deliveries (state, settled_at) WHERE settled_at IS NOT NULL;
CREATE TABLE clay_webhooks (
    key            TEXT    PRIMARY KEY,
    taken          INTEGER NOT NULL DEFAULT 0,
    refused_at     INTEGER,
    refused_status INTEGER
) STRICT;
";

/// Why the store is not opened. Each variant has the path of the file, which is left as it is.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.parts().0, self.parts().1)]
pub enum OpenError {
    /// The file cannot be opened or written, for this reason.
    Unwritable(PathBuf, String),
    /// The file is not a database, or a broken one, for this reason.
    Damaged(PathBuf, String),
    /// The file is the database of another program.
    NotOurs(PathBuf),
    /// An older relay is using the file, and could not read it after an upgrade.
    Older(PathBuf),
    /// A newer relay has written the file, with tables of this version.
    Newer(PathBuf, i64),
}

impl OpenError {
    /// Returns what happened, and what to do about it.
    pub fn parts(&self) -> (String, String) {
        let (problem, remedy) = match self {
            Self::Unwritable(path, detail) => (
                format!("{} cannot be opened for writing ({detail})", path.display()),
                "check the folder's permissions and the free space, or set RELAY_DATA to another folder",
            ),
            Self::Damaged(path, detail) => (
                format!("{} is damaged ({detail})", path.display()),
                "put back a copy of it, or set RELAY_DATA to another folder; nothing was changed",
            ),
            Self::NotOurs(path) => (
                format!("{} is the database of another program", path.display()),
                "set RELAY_DATA to another folder; nothing was changed",
            ),
            Self::Older(path) => {
                (format!("{} is in use by an older relay", path.display()), "stop that relay and start this version")
            }
            Self::Newer(path, found) => (
                format!(
                    "{} was written by a newer relay (store version {found}, this one knows {VERSION})",
                    path.display()
                ),
                "update the relay, or set RELAY_DATA to another folder; nothing was changed",
            ),
        };
        (problem, remedy.to_owned())
    }
}

/// The connections to an open store: one that writes, one that reads, and one that moves the write-ahead log to the file.
#[derive(Debug)]
pub struct Connections {
    pub(crate) writer: Connection,
    pub(crate) reader: Connection,
    pub(crate) checkpointer: Connection,
    pub(crate) files: StoreFiles,
}

/// Opens the store of a data folder for serving, and creates it if there is none.
///
/// What was under way when the last process ended is put back: a delivery that a worker was sending waits again, a row whose
/// caller waited was never acknowledged and [ends](end_direct). Held deliveries are to be
/// [released](crate::SqliteStore::release_all_held).
///
/// # Errors
/// [`OpenError`]; nothing is changed then.
pub fn open(dir: &Path, now: jiff::Timestamp) -> Result<Connections, OpenError> {
    let path = dir.join(STORE_FILE);
    create_private_file(&path)?;
    let to_error = |error| to_open_error(&path, &error);
    let mut connection = Connection::open(&path).map_err(to_error)?;
    let has_schema = check_schema(&path, &connection)?;
    let mut initialize = || -> rusqlite::Result<()> {
        // A store that is there keeps its own.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", true)?;
        // `write_ahead_log` makes the checkpoints, so that none comes in the middle of a commit.
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        if !has_schema {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {TABLES_VERSION}; COMMIT;"
            ))?;
        }
        upgrade(&mut connection)?;
        recover(&connection, now)
    };
    initialize().map_err(to_error)?;
    let open_another =
        || Connection::open(&path).and_then(|another| another.busy_timeout(BUSY_TIMEOUT).map(|()| another));
    let (reader, checkpointer) = (open_another().map_err(to_error)?, open_another().map_err(to_error)?);
    Ok(Connections { writer: connection, reader, checkpointer, files: StoreFiles::note(&path) })
}

/// Puts back what was under way when the last process ended.
pub(crate) fn recover(connection: &Connection, now: jiff::Timestamp) -> rusqlite::Result<()> {
    // No contact is locked yet.
    end_direct(connection, None, "[]", now)?;
    connection.execute("UPDATE deliveries SET state = 'waiting' WHERE state = 'sending'", []).map(drop)
}

/// Opens the store of a data folder beside a running relay, or returns None if there is none.
pub fn open_existing(dir: &Path) -> Result<Option<Connection>, OpenError> {
    let path = dir.join(STORE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let to_error = |error| to_open_error(&path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(to_error)?;
    if !check_schema(&path, &connection)? {
        return Ok(None);
    }
    if is_outdated(&connection).map_err(to_error)? && DataDir::new(dir.to_owned()).is_in_use() {
        return Err(OpenError::Older(path));
    }
    connection.pragma_update(None, "secure_delete", true).map_err(to_error)?;
    upgrade(&mut connection).map_err(to_error)?;
    Ok(Some(connection))
}

/// Creates the file for its owner alone, whatever folder it is in; SQLite gives the files beside it the same mode. A file
/// that is shorter than a page is a fragment, which SQLite would take for an empty database.
fn create_private_file(path: &Path) -> Result<(), OpenError> {
    let unwritable = |error: std::io::Error| OpenError::Unwritable(path.to_owned(), error.to_string());
    let damaged = |detail: &str| Err(OpenError::Damaged(path.to_owned(), detail.to_owned()));
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path).map_err(unwritable)?;
    let wal_bytes = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |log| log.len());
    match file.metadata().map_err(unwritable)?.len() {
        // SQLite would drop a log without its file, and acknowledged deliveries with it.
        0 if wal_bytes > 0 => damaged("only its log is left"),
        1..MIN_FILE_BYTES => damaged("it is cut off"),
        _ => Ok(()),
    }
}

/// Returns whether the tables are there: a file without any is to get them.
fn check_schema(path: &Path, connection: &Connection) -> Result<bool, OpenError> {
    let to_error = |error| to_open_error(path, &error);
    let pragma_value = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY_TIMEOUT).map_err(to_error)?;
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    if connection.query_row(sql, [], |row| row.get(0)).map_err(to_error)? {
        return Ok(false);
    }
    if pragma_value("application_id").map_err(to_error)? != APPLICATION_ID {
        return Err(OpenError::NotOurs(path.to_owned()));
    }
    let version = pragma_value("user_version").map_err(to_error)?;
    if version > VERSION {
        return Err(OpenError::Newer(path.to_owned(), version));
    }
    read_ends(connection).map_err(to_error)?;
    Ok(true)
}

/// Reads the first and the last row of each table, by which a file that is cut or overwritten is found whatever its size: the
/// rest is checked where it is read. SQLite itself compares the length of the file with the one in its header.
fn read_ends(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        connection.query_row(&format!("SELECT count(*) FROM (SELECT * FROM {table} LIMIT 1)"), [], |_| Ok(()))?;
    }
    connection.query_row("SELECT max(rowid) FROM deliveries", [], |_| Ok(()))
}

fn to_open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    let to_error = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged,
        _ => OpenError::Unwritable,
    };
    to_error(path.to_owned(), error.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// A store of about a hundred pages, in one file.
    fn filled_store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        let sql = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000)
                   INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at)
                   SELECT n, 'clay-to-loops', 'waiting', n, 'contact', hex(randomblob(100)), 1, 1 FROM numbers";
        store.writer.execute(sql, []).unwrap();
        dir
    }

    fn assert_damaged_and_unchanged(dir: &Path, bytes: &[u8]) {
        let path = dir.join(STORE_FILE);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(open(dir, Timestamp::UNIX_EPOCH), Err(OpenError::Damaged(..))));
        assert!(matches!(open_existing(dir), Err(OpenError::Damaged(..))));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn file_that_is_cut_anywhere_is_not_opened() {
        let dir = filled_store();
        let whole = std::fs::read(dir.path().join(STORE_FILE)).unwrap();
        for length in [2048, whole.len() / 2, whole.len() - 4096] {
            assert_damaged_and_unchanged(dir.path(), &whole[..length]);
        }
    }

    #[test]
    fn file_whose_pages_are_overwritten_is_not_opened() {
        let dir = filled_store();
        let mut bytes = std::fs::read(dir.path().join(STORE_FILE)).unwrap();
        bytes[4096..].fill(0xAB);
        assert_damaged_and_unchanged(dir.path(), &bytes);
    }
}
