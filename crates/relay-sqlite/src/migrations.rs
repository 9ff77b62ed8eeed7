//! Upgrades of a store that an older relay has written.
//!
//! Version 2 renamed the column `place` to `seq`, an index and three reason codes, and holds everything that was added to
//! version 1 over time.

use rusqlite::{Connection, TransactionBehavior};

/// Version of the tables (`PRAGMA user_version`).
pub(crate) const VERSION: i64 = 2;

/// What was added over time: an index by which an operator finds the deliveries of a contact; failures by reason (`status`
/// is 0 without a response, and the counts stay if a row that was dead-lettered is run again); the paused directions; the
/// accounts that were served, as one document. Times are Unix milliseconds.
const CREATE_ADDED: &str = "
CREATE INDEX IF NOT EXISTS deliveries_of_contact ON deliveries (contact_hash);
CREATE TABLE IF NOT EXISTS failures (
    delivery_id TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    PRIMARY KEY (delivery_id, reason, status)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS paused (direction TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL) STRICT;
";

/// The columns of `deliveries` that were added over time: the hash of its contact; when the first and the last attempt began;
/// the content key of an event; before when it is not attempted (a time in the past means nothing); when the first attempt at
/// an event began whose outcome is not known.
const ADDED_COLUMNS: [(&str, &str); 6] = [
    ("contact_hash", "TEXT"),
    ("first_attempt_at", "INTEGER"),
    ("last_attempt_at", "INTEGER"),
    ("event_hash", "TEXT"),
    ("not_before", "INTEGER"),
    ("unknown_since", "INTEGER"),
];

/// The renames of version 2.
const RENAMES: &str = "
ALTER TABLE deliveries RENAME COLUMN place TO seq;
DROP INDEX deliveries_lane;
CREATE INDEX deliveries_of_contact_due ON deliveries (direction, contact, seq) WHERE settled_at IS NULL;
";

/// The reason codes that version 2 renamed.
const RENAMED_REASONS: [(&str, &str); 3] =
    [("far_end_full", "destination_throttled"), ("far_end_failed", "destination_failed"), ("given_up", "expired")];

pub(crate) fn is_outdated(connection: &Connection) -> rusqlite::Result<bool> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|version| version < VERSION)
}

/// Upgrades the tables to this version in one transaction.
pub(crate) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    // The columns and the other tables were added in the transaction that created the tables.
    if !is_outdated(connection)? && missing_columns(connection)?.is_empty() && has_accounts(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    if is_outdated(&transaction)? {
        transaction.execute_batch(RENAMES)?;
    }
    for (column, sql_type) in missing_columns(&transaction)? {
        transaction.execute_batch(&format!("ALTER TABLE deliveries ADD COLUMN {column} {sql_type}"))?;
    }
    transaction.execute_batch(CREATE_ADDED)?;
    if is_outdated(&transaction)? {
        for (before, after) in RENAMED_REASONS {
            transaction.execute("UPDATE deliveries SET reason = ?2 WHERE reason = ?1", [before, after])?;
            transaction.execute("UPDATE failures SET reason = ?2 WHERE reason = ?1", [before, after])?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// Whether the table that was added last is there.
fn has_accounts(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'accounts')";
    connection.query_row(sql, [], |row| row.get(0))
}

fn missing_columns(connection: &Connection) -> rusqlite::Result<Vec<(&'static str, &'static str)>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('deliveries')")?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let is_missing = |(column, _): &(&str, &str)| !names.iter().any(|name| name == column);
    Ok(ADDED_COLUMNS.into_iter().filter(is_missing).collect())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::admin::queries::{Filter, deliveries};
    use crate::data_dir::DataDir;
    use crate::schema::{OpenError, open, open_existing};

    /// A store as it was before anything was added, with a delivery.
    fn old_store() -> tempfile::TempDir {
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()
            .unwrap();
        let opened = open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        let sql = "
            ALTER TABLE deliveries RENAME COLUMN seq TO place;
            DROP INDEX deliveries_of_contact_due;
            CREATE INDEX deliveries_lane ON deliveries (direction, contact, place) WHERE settled_at IS NULL;
            PRAGMA user_version = 1;
            DROP TABLE failures;
            DROP TABLE paused;
            DROP TABLE accounts;
            DROP INDEX deliveries_of_contact;
            ALTER TABLE deliveries DROP COLUMN contact_hash;
            ALTER TABLE deliveries DROP COLUMN first_attempt_at;
            ALTER TABLE deliveries DROP COLUMN last_attempt_at;
            ALTER TABLE deliveries DROP COLUMN event_hash;
            ALTER TABLE deliveries DROP COLUMN not_before;
            ALTER TABLE deliveries DROP COLUMN unknown_since;
            INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at, attempts)
            VALUES ('old', 'clay-to-loops', 'waiting', 'c', 'contact', 'h', 1, 1, 3)";
        opened.writer.execute_batch(sql).unwrap();
        folder
    }

    #[test]
    fn old_store_is_migrated_with_its_deliveries() {
        let dir = old_store();
        let opened = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        let all = deliveries(&opened.reader, &Filter::default()).unwrap();
        let listed: Vec<_> = all.iter().map(|one| (one.id.as_str(), one.attempts, one.first_attempt_at)).collect();
        assert_eq!(listed, [("old", 3, None)]);
    }

    #[test]
    fn migrated_store_has_the_new_reason_codes() {
        let dir = old_store();
        let connection = rusqlite::Connection::open(dir.path().join(crate::STORE_FILE)).unwrap();
        let sql = "UPDATE deliveries SET reason = 'far_end_full', status = 429;
                   CREATE TABLE failures (delivery_id TEXT NOT NULL, reason TEXT NOT NULL, status INTEGER NOT NULL,
                       count INTEGER NOT NULL, last_at INTEGER NOT NULL, PRIMARY KEY (delivery_id, reason, status)
                   ) STRICT, WITHOUT ROWID;
                   INSERT INTO failures VALUES ('old', 'far_end_full', 429, 2, 1), ('old', 'far_end_failed', 503, 1, 1),
                       ('old', 'given_up', 0, 1, 1)";
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let opened = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        let record = deliveries(&opened.reader, &Filter::default()).unwrap().remove(0);
        assert_eq!((record.reason.as_deref(), record.status), (Some("destination_throttled"), Some(429)));
        let mut failures: Vec<_> = record.failures.iter().map(|one| (one.reason.as_str(), one.count)).collect();
        failures.sort_unstable();
        assert_eq!(failures, [("destination_failed", 1), ("destination_throttled", 2), ("expired", 1)]);
    }

    #[test]
    fn old_store_can_be_listed_before_serving() {
        let dir = old_store();
        let connection = open_existing(dir.path()).unwrap().unwrap();
        let all = deliveries(&connection, &Filter::default()).unwrap();
        assert_eq!((all.len(), all[0].failures.len()), (1, 0));
    }

    #[test]
    fn migrated_store_has_the_schema_of_a_new_one() {
        let schema = |folder: &std::path::Path| {
            let connection = open_existing(folder).unwrap().unwrap();
            let columns = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c ORDER BY 1";
            let mut statement = connection.prepare(columns).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let (upgraded, created) = (old_store(), tempfile::tempdir().unwrap());
        drop(open(created.path(), Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(schema(upgraded.path()), schema(created.path()));
        assert!(schema(created.path()).contains(&"failures.count".to_owned()));
        assert!(schema(created.path()).contains(&"paused.since".to_owned()));
        assert!(schema(created.path()).contains(&"accounts.document".to_owned()));
    }

    #[test]
    fn older_store_in_use_is_left_as_it_is() {
        let folder = old_store();
        let lock = DataDir::new(folder.path().to_owned()).lock().unwrap();
        assert!(matches!(open_existing(folder.path()).unwrap_err(), OpenError::Older { .. }));
        lock.release();
        assert!(open_existing(folder.path()).unwrap().is_some());
    }
}
