//! Opening the file: made where there is none, refused where it is not ours, damaged, or of a newer relay.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::data_dir::DataDir;
use crate::delivery_row::remove_abandoned;
use crate::migrations::{self, VERSION, upgrade};

/// The name of the file in the data folder.
pub const STORE_FILE: &str = "relay.db";

/// Marks the file as a relay's (`PRAGMA application_id`): "LCRs".
const APPLICATION_ID: i64 = 0x4c43_5273;
/// The size of a page, and so of the smallest file with anything in it.
const MIN_FILE_BYTES: u64 = 4096;
/// How long a statement waits for another process to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

const TABLES: &str = "
CREATE TABLE deliveries (
    -- The order of arrival; deliveries of one contact go in this order.
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT    NOT NULL UNIQUE,
    direction       TEXT    NOT NULL,
    -- waiting: for a worker. sending: a worker has it. direct: a caller waits for it. delivered, dead: settled.
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'sending', 'direct', 'delivered', 'dead')),
    contact         TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('row', 'contact', 'event')),
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
CREATE INDEX deliveries_due ON deliveries (direction, state, next_at, seq) WHERE settled_at IS NULL;
CREATE INDEX deliveries_of_contact_due ON deliveries (direction, contact, seq) WHERE settled_at IS NULL;
CREATE INDEX deliveries_settled ON deliveries (state, settled_at) WHERE settled_at IS NOT NULL;
CREATE TABLE clay_webhooks (
    key            TEXT    PRIMARY KEY,
    taken          INTEGER NOT NULL DEFAULT 0,
    refused_at     INTEGER,
    refused_status INTEGER
) STRICT;
";

/// Why the store is not opened. The file is left as it is.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.parts().0, self.parts().1)]
pub enum OpenError {
    /// The file cannot be opened or written.
    Unwritable {
        /// Path of the file.
        path: String,
        /// Message of the system.
        detail: String,
    },
    /// The file is not a database, or a broken one.
    Damaged {
        /// Path of the file.
        path: String,
        /// Message of SQLite.
        detail: String,
    },
    /// The file is the database of another program.
    NotOurs {
        /// Path of the file.
        path: String,
    },
    /// An older relay is using the file, and could not read it after an upgrade.
    Older {
        /// Path of the file.
        path: String,
    },
    /// A newer relay has written the file.
    Newer {
        /// Path of the file.
        path: String,
        /// Version of its tables.
        found: i64,
    },
}

impl OpenError {
    /// Returns what happened, and what to do about it.
    #[must_use]
    pub fn parts(&self) -> (String, String) {
        let (problem, remedy) = match self {
            Self::Unwritable { path, detail } => (
                format!("{path} cannot be opened for writing ({detail})"),
                "check the folder's permissions and the free space, or set RELAY_DATA to another folder",
            ),
            Self::Damaged { path, detail } => (
                format!("{path} is damaged ({detail})"),
                "put back a copy of it, or set RELAY_DATA to another folder; nothing was changed",
            ),
            Self::NotOurs { path } => (
                format!("{path} is the database of another program"),
                "set RELAY_DATA to another folder; nothing was changed",
            ),
            Self::Older { path } => {
                (format!("{path} is in use by an older relay"), "stop that relay and start this version")
            }
            Self::Newer { path, found } => (
                format!("{path} was written by a newer relay (store version {found}, this one knows {VERSION})"),
                "update the relay, or set RELAY_DATA to another folder; nothing was changed",
            ),
        };
        (problem, remedy.to_owned())
    }
}

/// An open file: one connection that writes, one that reads beside it.
#[derive(Debug)]
pub struct Connections {
    pub(crate) writer: Connection,
    pub(crate) reader: Connection,
}

/// Opens the store of a folder for serving, and makes it where there is none.
///
/// What was under way when the last process ended is put back: what a worker had waits again, what a caller waited for
/// was never acknowledged and is forgotten, what was held is tried at once.
///
/// # Errors
/// [`OpenError`]; nothing is changed then.
pub fn open(dir: &Path, now: jiff::Timestamp) -> Result<Connections, OpenError> {
    let path = dir.join(STORE_FILE);
    create_private_file(&path)?;
    let mut connection = Connection::open(&path).map_err(|error| to_open_error(&path, &error))?;
    let has_schema = check_schema(&path, &connection)?;
    let mut initialize = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", true)?;
        if !has_schema {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
            ))?;
        }
        upgrade(&mut connection)?;
        // Nobody has a lane yet.
        remove_abandoned(&connection, "[]", now)?;
        connection
            .execute("UPDATE deliveries SET state = 'waiting' WHERE settled_at IS NULL AND state = 'sending'", [])?;
        connection.execute(
            "UPDATE deliveries SET next_at = ?1 WHERE settled_at IS NULL AND held_since IS NOT NULL",
            [now.as_millisecond()],
        )?;
        Ok(())
    };
    initialize().map_err(|error| to_open_error(&path, &error))?;
    let reader = Connection::open(&path).and_then(|reader| reader.busy_timeout(BUSY_TIMEOUT).map(|()| reader));
    Ok(Connections { writer: connection, reader: reader.map_err(|error| to_open_error(&path, &error))? })
}

/// Opens the store of a folder beside a running relay, to look at it; nothing where there is none yet.
///
/// # Errors
/// [`OpenError`].
pub fn open_existing(dir: &Path) -> Result<Option<Connection>, OpenError> {
    let path = dir.join(STORE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(|error| to_open_error(&path, &error))?;
    if !check_schema(&path, &connection)? {
        return Ok(None);
    }
    if migrations::is_outdated(&connection).map_err(|error| to_open_error(&path, &error))?
        && DataDir::new(dir.to_owned()).is_in_use()
    {
        return Err(OpenError::Older { path: path.display().to_string() });
    }
    upgrade(&mut connection).map_err(|error| to_open_error(&path, &error))?;
    Ok(Some(connection))
}

/// Makes the file for its owner alone, whatever folder it is in; SQLite gives the files beside it the same rights. A file
/// that is shorter than a page is what is left of one, and SQLite would take it for an empty one.
fn create_private_file(path: &Path) -> Result<(), OpenError> {
    let unwritable =
        |error: std::io::Error| OpenError::Unwritable { path: path.display().to_string(), detail: error.to_string() };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path).map_err(unwritable)?;
    let wal_bytes = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |log| log.len());
    match file.metadata().map_err(unwritable)?.len() {
        // SQLite would drop a log without its file, and with it what was acknowledged.
        0 if wal_bytes > 0 => {
            Err(OpenError::Damaged { path: path.display().to_string(), detail: "only its log is left".to_owned() })
        }
        1..MIN_FILE_BYTES => {
            Err(OpenError::Damaged { path: path.display().to_string(), detail: "it is cut off".to_owned() })
        }
        _ => Ok(()),
    }
}

/// Whether the tables are there; a file without anything in it is one to make them in.
fn check_schema(path: &Path, connection: &Connection) -> Result<bool, OpenError> {
    let display_path = || path.display().to_string();
    let pragma_value = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let inspect = || -> rusqlite::Result<(i64, i64, i64)> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((pragma_value("application_id")?, pragma_value("user_version")?, tables))
    };
    let (application_id, version, tables) = inspect().map_err(|error| to_open_error(path, &error))?;
    if tables == 0 {
        return Ok(false);
    }
    if application_id != APPLICATION_ID {
        return Err(OpenError::NotOurs { path: display_path() });
    }
    if version > VERSION {
        return Err(OpenError::Newer { path: display_path(), found: version });
    }
    let integrity: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| to_open_error(path, &error))?;
    if integrity == "ok" {
        Ok(true)
    } else {
        Err(OpenError::Damaged { path: display_path(), detail: integrity.replace('\n', " ") })
    }
}

fn to_open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, detail) = (path.display().to_string(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged { path, detail },
        _ => OpenError::Unwritable { path, detail },
    }
}
