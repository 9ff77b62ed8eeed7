//! Upgrades of a store that an older relay has written.
//!
//! Version 2 renamed the column `place` to `seq` and an index, and holds everything that was added to version 1 over time.

use rusqlite::{Connection, TransactionBehavior};

/// The version of the tables (`PRAGMA user_version`).
pub(crate) const VERSION: i64 = 2;

/// How often each reason occurred at a delivery. `status` is 0 where no answer came, `last_at` in Unix milliseconds. The
/// counts stay where a row that died is run again.
const FAILURES: &str = "
CREATE TABLE IF NOT EXISTS failures (
    delivery_id TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    PRIMARY KEY (delivery_id, reason, status)
) STRICT, WITHOUT ROWID;
";

/// The directions that a person has paused, and since when, in Unix milliseconds.
const PAUSED: &str = "CREATE TABLE IF NOT EXISTS paused (direction TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT;";

/// By what a person finds the deliveries of a contact.
const CONTACTS: &str = "CREATE INDEX IF NOT EXISTS deliveries_of_contact ON deliveries (contact_hash)";

/// The columns of `deliveries` that were added over time: the hash of its contact; when the first and the last attempt were
/// begun; the content key of an event under a caller's own key; before when it is not attempted. Such a time in the past means
/// nothing.
const COLUMNS: [(&str, &str); 5] = [
    ("contact_hash", "TEXT"),
    ("first_attempt_at", "INTEGER"),
    ("last_attempt_at", "INTEGER"),
    ("event_hash", "TEXT"),
    ("not_before", "INTEGER"),
];

/// The renames of version 2.
const RENAMES: &str = "
ALTER TABLE deliveries RENAME COLUMN place TO seq;
DROP INDEX deliveries_lane;
CREATE INDEX deliveries_of_contact_due ON deliveries (direction, contact, seq) WHERE settled_at IS NULL;
";

/// Returns whether the tables are of an older version.
pub(crate) fn is_outdated(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).map(|version| version < VERSION)
}

/// Upgrades the tables to this version, wholly or not at all.
pub(crate) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    if !is_outdated(connection)? && missing(connection)?.is_empty() && has_tables(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if is_outdated(&transaction)? {
        transaction.execute_batch(RENAMES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    for (column, kind) in missing(&transaction)? {
        transaction.execute_batch(&format!("ALTER TABLE deliveries ADD COLUMN {column} {kind}"))?;
    }
    transaction.execute_batch(CONTACTS)?;
    transaction.execute_batch(FAILURES)?;
    transaction.execute_batch(PAUSED)?;
    transaction.commit()
}

fn missing(connection: &Connection) -> rusqlite::Result<Vec<(&'static str, &'static str)>> {
    let mut statement = connection.prepare("SELECT count(*) FROM pragma_table_info('deliveries') WHERE name = ?1")?;
    let mut missing = Vec::new();
    for (column, kind) in COLUMNS {
        if statement.query_row([column], |row| row.get::<_, i64>(0))? == 0 {
            missing.push((column, kind));
        }
    }
    Ok(missing)
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    let known = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('failures', 'paused')";
    connection.query_row(known, [], |row| row.get::<_, i64>(0)).map(|tables| tables == 2)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::data_dir::DataDir;
    use crate::schema::OpenError;
    use crate::store::{ListFilter, list, open, open_existing};

    /// A store as it was before anything was added, with a delivery.
    fn old() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        let old = "
            ALTER TABLE deliveries RENAME COLUMN seq TO place;
            DROP INDEX deliveries_of_contact_due;
            CREATE INDEX deliveries_lane ON deliveries (direction, contact, place) WHERE settled_at IS NULL;
            PRAGMA user_version = 1;
            DROP TABLE failures;
            DROP TABLE paused;
            DROP INDEX deliveries_of_contact;
            ALTER TABLE deliveries DROP COLUMN contact_hash;
            ALTER TABLE deliveries DROP COLUMN first_attempt_at;
            ALTER TABLE deliveries DROP COLUMN last_attempt_at;
            ALTER TABLE deliveries DROP COLUMN event_hash;
            ALTER TABLE deliveries DROP COLUMN not_before;
            INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at, attempts)
            VALUES ('old', 'clay-to-loops', 'waiting', 'c', 'contact', 'h', 1, 1, 3)";
        opened.writer.execute_batch(old).unwrap();
        folder
    }

    #[test]
    fn an_old_store_is_served_and_keeps_what_is_in_it() {
        let folder = old();
        let opened = open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        let all = list(&opened.reader, &ListFilter { state: None, limit: 9 }).unwrap();
        let told: Vec<_> = all.iter().map(|one| (one.id.as_str(), one.attempts, one.first_attempt_at)).collect();
        assert_eq!(told, [("old", 3, None)]);
    }

    #[test]
    fn an_old_store_can_be_looked_at_before_it_is_served() {
        let folder = old();
        let connection = open_existing(folder.path()).unwrap().unwrap();
        let all = list(&connection, &ListFilter { state: None, limit: 9 }).unwrap();
        assert_eq!((all.len(), all[0].failures.len()), (1, 0));
    }

    #[test]
    fn a_store_is_the_same_whether_it_was_made_or_upgraded() {
        let schema = |folder: &std::path::Path| {
            let connection = open_existing(folder).unwrap().unwrap();
            let columns = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c ORDER BY 1";
            let mut statement = connection.prepare(columns).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let (upgraded, made) = (old(), tempfile::tempdir().unwrap());
        drop(open(made.path(), Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(schema(upgraded.path()), schema(made.path()));
        assert!(schema(made.path()).contains(&"failures.count".to_owned()));
        assert!(schema(made.path()).contains(&"paused.since".to_owned()));
    }

    #[test]
    fn older_store_in_use_is_left_as_it_is() {
        let folder = old();
        let lock = DataDir::new(folder.path().to_owned()).lock().unwrap();
        assert!(matches!(open_existing(folder.path()).unwrap_err(), OpenError::Older { .. }));
        lock.release();
        assert!(open_existing(folder.path()).unwrap().is_some());
    }
}
