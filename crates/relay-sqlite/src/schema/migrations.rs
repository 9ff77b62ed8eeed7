//! Upgrades of a store that an older relay has written.
//!
//! Version 2 renamed the column `place` to `seq`, an index and three reason codes, and holds everything that was added to
//! version 1 over time. Version 3 has the indexes and totals by which no cost grows with what is settled or waits. Version 4
//! has three kinds of deliveries more. Version 5 has an index more, for the pages of what is held.

use rusqlite::{Connection, TransactionBehavior};

/// Version of the tables (`PRAGMA user_version`).
pub(crate) const VERSION: i64 = 5;

/// What was added over time: failures by reason (`status` is 0 without a response, and the counts stay if a row that was
/// dead-lettered is run again); the paused directions; the accounts that were served, as one document. Times are Unix
/// milliseconds.
const CREATE_ADDED: &str = "
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
/// an event began whose outcome is not known; what its destination said when it refused it.
const ADDED_COLUMNS: [(&str, &str); 7] = [
    ("contact_hash", "TEXT"),
    ("first_attempt_at", "INTEGER"),
    ("last_attempt_at", "INTEGER"),
    ("event_hash", "TEXT"),
    ("not_before", "INTEGER"),
    ("unknown_since", "INTEGER"),
    ("message", "TEXT"),
];

/// The checks of tables before version 4, and what they are now: they allow all kinds, and have no list (`IN`).
const CHECKS: [[&str; 2]; 2] = [
    [
        "CHECK (kind IN ('row', 'contact', 'event'))",
        "CHECK (kind = 'row' OR kind = 'contact' OR kind = 'event' OR kind = 'create' OR kind = 'delete' OR kind = 'email')",
    ],
    [
        "CHECK (state IN ('waiting', 'sending', 'direct', 'delivered', 'dead'))",
        "CHECK (state = 'waiting' OR state = 'sending' OR state = 'direct' OR state = 'delivered' OR state = 'dead')",
    ],
];

/// The renames of version 2.
const RENAMES: &str = "
ALTER TABLE deliveries RENAME COLUMN place TO seq;
DROP INDEX deliveries_lane;
";

/// The indexes and totals of version 3. The key of an index ends with the `seq` of its rows, which is their rowid.
const INDEXES_AND_TOTALS: &str = "
DROP INDEX IF EXISTS deliveries_due;
-- For claims: what never failed comes first.
CREATE INDEX deliveries_due ON deliveries (direction, failing_since IS NULL AND held_since IS NULL, next_at)
    WHERE state = 'waiting';
-- For the order of a contact's deliveries.
DROP INDEX IF EXISTS deliveries_of_contact_due;
CREATE INDEX deliveries_in_order ON deliveries (direction, contact, state);
-- For the release of what is held.
CREATE INDEX deliveries_held ON deliveries (next_at) WHERE state = 'waiting' AND held_since IS NOT NULL;
-- For pages of one state, the oldest delivery that waits, and what was under way when the process ended.
CREATE INDEX deliveries_of_state ON deliveries (state, direction);
CREATE INDEX deliveries_of_reason ON deliveries (reason, direction) WHERE state = 'dead';
DROP INDEX IF EXISTS deliveries_of_contact;
-- An arrival does not pay for it.
CREATE INDEX deliveries_of_contact ON deliveries (contact_hash) WHERE settled_at IS NOT NULL;
CREATE INDEX failures_latest ON failures (last_at);

-- A delivery behind another one of its contact is never due, so that no claim has to pass over it, until its turn comes.
CREATE TRIGGER next_of_contact AFTER UPDATE OF settled_at ON deliveries
WHEN old.settled_at IS NULL AND new.settled_at IS NOT NULL BEGIN
    UPDATE deliveries SET next_at = new.settled_at
    WHERE seq = (SELECT min(seq) FROM deliveries
                 WHERE direction = new.direction AND contact = new.contact AND state = 'waiting')
      AND next_at = 9223372036854775807;
END;
UPDATE deliveries SET next_at = 9223372036854775807
WHERE state = 'waiting' AND attempts = 0 AND EXISTS
    (SELECT 1 FROM deliveries AS earlier
     WHERE earlier.direction = deliveries.direction AND earlier.contact = deliveries.contact
       AND earlier.state IN ('waiting', 'sending') AND earlier.seq < deliveries.seq);

-- Numbers of deliveries. What is being sent waits too, and what a caller waits for is not counted.
CREATE TABLE totals (
    direction TEXT    PRIMARY KEY,
    waiting   INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    dead      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO totals
SELECT column1,
       (SELECT count(*) FROM deliveries WHERE direction = column1 AND state IN ('waiting', 'sending')),
       (SELECT count(*) FROM deliveries WHERE direction = column1 AND state = 'delivered'),
       (SELECT count(*) FROM deliveries WHERE direction = column1 AND state = 'dead')
FROM (VALUES ('loops-to-clay'), ('clay-to-loops'));
CREATE TRIGGER totals_of_inserted AFTER INSERT ON deliveries WHEN new.state <> 'direct' BEGIN
    UPDATE totals
    SET waiting = waiting + (new.state IN ('waiting', 'sending')),
        delivered = delivered + (new.state = 'delivered'),
        dead = dead + (new.state = 'dead')
    WHERE direction = new.direction;
END;
CREATE TRIGGER totals_of_updated AFTER UPDATE OF state ON deliveries
WHEN NOT (old.state IN ('waiting', 'sending') AND new.state IN ('waiting', 'sending')) BEGIN
    UPDATE totals
    SET waiting = waiting + (new.state IN ('waiting', 'sending')) - (old.state IN ('waiting', 'sending')),
        delivered = delivered + (new.state = 'delivered') - (old.state = 'delivered'),
        dead = dead + (new.state = 'dead') - (old.state = 'dead')
    WHERE direction = new.direction;
END;
CREATE TRIGGER totals_of_deleted AFTER DELETE ON deliveries WHEN old.state <> 'direct' BEGIN
    UPDATE totals
    SET waiting = waiting - (old.state IN ('waiting', 'sending')),
        delivered = delivered - (old.state = 'delivered'),
        dead = dead - (old.state = 'dead')
    WHERE direction = old.direction;
END;
";

/// The index of version 5. Only what is held pays for it.
const HELD_INDEX: &str = "
CREATE INDEX deliveries_held_of_direction ON deliveries (direction) WHERE state = 'waiting' AND held_since IS NOT NULL;
";

/// The reason codes that version 2 renamed.
const RENAMED_REASONS: [(&str, &str); 3] =
    [("far_end_full", "destination_throttled"), ("far_end_failed", "destination_failed"), ("given_up", "expired")];

pub(crate) fn is_outdated(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? < VERSION)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Upgrades the tables to this version in one transaction.
pub(crate) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    if !is_outdated(connection)? && missing_columns(connection)?.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    let version = version(&transaction)?;
    if version < 2 {
        transaction.execute_batch(RENAMES)?;
    }
    for (column, sql_type) in missing_columns(&transaction)? {
        transaction.execute_batch(&format!("ALTER TABLE deliveries ADD COLUMN {column} {sql_type}"))?;
    }
    transaction.execute_batch(CREATE_ADDED)?;
    if version < 2 {
        for (before, after) in RENAMED_REASONS {
            transaction.execute("UPDATE deliveries SET reason = ?2 WHERE reason = ?1", [before, after])?;
            transaction.execute("UPDATE failures SET reason = ?2 WHERE reason = ?1", [before, after])?;
        }
    }
    if version < 3 {
        transaction.execute_batch(INDEXES_AND_TOTALS)?;
    }
    if version < 4 {
        rewrite_checks(&transaction)?;
    }
    if version < VERSION {
        transaction.execute_batch(HELD_INDEX)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    // Every connection reads the tables anew.
    connection.execute_batch("PRAGMA writable_schema = RESET")
}

/// Writes older checks anew, in the way that SQLite documents for constraints (SQLite, "ALTER TABLE": making other kinds of
/// table schema changes). The rows stay as they are.
fn rewrite_checks(connection: &Connection) -> rusqlite::Result<()> {
    let schema_version: i64 = connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    connection.pragma_update(None, "writable_schema", true)?;
    for change in CHECKS {
        let sql = "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2) WHERE type = 'table' AND name = 'deliveries'";
        connection.execute(sql, change)?;
    }
    connection.pragma_update(None, "schema_version", schema_version + 1)
}

fn missing_columns(connection: &Connection) -> rusqlite::Result<Vec<(&'static str, &'static str)>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('deliveries')")?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let is_missing = |(column, _): &(&str, &str)| !names.iter().any(|name| name == column);
    Ok(ADDED_COLUMNS.into_iter().filter(is_missing).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use relay::ports::admin::DeliveryQuery;

    use crate::admin::pages::page;
    use crate::data_dir::DataDir;
    use crate::schema::migrations::CHECKS;
    use crate::schema::{OpenError, open, open_existing};

    /// Takes back what version 3 has changed.
    const TO_VERSION_2: &str = "
        DROP TRIGGER totals_of_inserted;
        DROP TRIGGER totals_of_updated;
        DROP TRIGGER totals_of_deleted;
        DROP TABLE totals;
        DROP INDEX failures_latest;
        DROP INDEX deliveries_held;
        DROP INDEX deliveries_held_of_direction;
        DROP INDEX deliveries_of_state;
        DROP INDEX deliveries_of_reason;
        DROP TRIGGER next_of_contact;
        DROP INDEX deliveries_in_order;
        CREATE INDEX deliveries_of_contact_due ON deliveries (direction, contact, seq) WHERE settled_at IS NULL;
        DROP INDEX deliveries_due;
        CREATE INDEX deliveries_due ON deliveries (direction, state, next_at, seq) WHERE settled_at IS NULL;
        DROP INDEX deliveries_of_contact;
        CREATE INDEX deliveries_of_contact ON deliveries (contact_hash);
        PRAGMA user_version = 2;";

    /// A store as it was before anything was added, with a delivery.
    fn old_store() -> tempfile::TempDir {
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()
            .unwrap();
        let opened = open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        opened.writer.execute_batch(TO_VERSION_2).unwrap();
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
        let all = page(&opened.reader, &DeliveryQuery::default(), 10, i64::MAX).unwrap().0;
        let listed: Vec<_> = all.values().map(|one| (one.id.as_str(), one.attempts, one.first_attempt_at)).collect();
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
        let record = page(&opened.reader, &DeliveryQuery::default(), 10, i64::MAX).unwrap().0.remove(&1).unwrap();
        assert_eq!((record.reason.as_deref(), record.status), (Some("destination_throttled"), Some(429)));
        let mut failures: Vec<_> = record.failures.iter().map(|one| (one.reason.as_str(), one.count)).collect();
        failures.sort_unstable();
        assert_eq!(failures, [("destination_failed", 1), ("destination_throttled", 2), ("expired", 1)]);
    }

    #[test]
    fn migrated_store_takes_every_kind() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        // The checks of a store of version 3.
        opened.writer.pragma_update(None, "writable_schema", true).unwrap();
        for [before, after] in CHECKS {
            let sql = "UPDATE sqlite_schema SET sql = replace(sql, ?2, ?1) WHERE name = 'deliveries'";
            opened.writer.execute(sql, [before, after]).unwrap();
        }
        opened
            .writer
            .execute_batch(
                "DROP INDEX deliveries_held_of_direction; PRAGMA user_version = 3; PRAGMA schema_version = 1000;",
            )
            .unwrap();
        drop(opened);
        let insert = |connection: &rusqlite::Connection, kind: &str| {
            let sql = "INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at)
                       VALUES (?1, 'clay-to-loops', 'waiting', 'c', ?1, 'h', 1, 1)";
            connection.execute(sql, [kind])
        };
        let raw = rusqlite::Connection::open(dir.path().join(crate::STORE_FILE)).unwrap();
        insert(&raw, "email").unwrap_err();
        drop(raw);
        let opened = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        for kind in ["row", "contact", "event", "create", "delete", "email"] {
            insert(&opened.writer, kind).unwrap();
        }
        insert(&opened.writer, "other").unwrap_err();
    }

    #[test]
    fn old_store_can_be_listed_before_serving() {
        let dir = old_store();
        let connection = open_existing(dir.path()).unwrap().unwrap();
        let all = page(&connection, &DeliveryQuery::default(), 10, i64::MAX).unwrap().0;
        assert_eq!((all.len(), all[&1].failures.len()), (1, 0));
    }

    /// Returns the tables, columns, indexes and triggers of a store.
    fn schema(folder: &Path) -> Vec<String> {
        let connection = open_existing(folder).unwrap().unwrap();
        let sql = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'
                   UNION ALL SELECT sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    }

    #[test]
    fn migrated_store_has_the_schema_of_a_new_one() {
        let created = tempfile::tempdir().unwrap();
        drop(open(created.path(), Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(schema(old_store().path()), schema(created.path()));
        for column in ["failures.count", "paused.since", "accounts.document", "totals.waiting"] {
            assert!(schema(created.path()).iter().any(|name| name == column), "{column}");
        }
    }

    #[test]
    fn store_of_version_2_keeps_its_deliveries_and_counts_them() {
        let dir = tempfile::tempdir().unwrap();
        let before = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap();
        let created = schema(dir.path());
        before.writer.execute_batch(TO_VERSION_2).unwrap();
        let states = ["waiting", "sending", "direct", "delivered", "delivered", "dead"];
        for (number, state) in states.into_iter().enumerate() {
            let sql = "INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at)
                       VALUES (?1, 'clay-to-loops', ?2, 'c', 'contact', 'h', 1, 1)";
            before.writer.execute(sql, rusqlite::params![number.to_string(), state]).unwrap();
        }
        drop(before);
        let after = open_existing(dir.path()).unwrap().unwrap();
        assert_eq!(schema(dir.path()), created);
        let stored: u32 = after.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, 6);
        let sql = "SELECT waiting, delivered, dead FROM totals ORDER BY direction";
        let mut statement = after.prepare(sql).unwrap();
        let totals = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        assert_eq!(totals.collect::<Result<Vec<(u32, u32, u32)>, _>>().unwrap(), [(2, 2, 1), (0, 0, 0)]);
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
