//! What newer relays have added to the tables.
//!
//! It is added to a file where it is missing, and nothing that was there is changed: an older relay can go on with the
//! file, and only does not fill in what it does not know. So the version of the tables stays.

use rusqlite::{Connection, TransactionBehavior};

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

/// The columns of `deliveries` that it did not have at first: when the first and the last attempt were begun, and by what a
/// person finds the deliveries of a contact.
const COLUMNS: [(&str, &str); 3] =
    [("first_attempt_at", "INTEGER"), ("last_attempt_at", "INTEGER"), ("contact_hash", "TEXT")];

const INDEX: &str = "CREATE INDEX IF NOT EXISTS deliveries_of_contact ON deliveries (contact_hash);";

/// Adds what is missing, all of it or nothing.
pub(super) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    if missing(connection)?.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    for (column, kind) in missing(&transaction)? {
        transaction.execute_batch(&format!("ALTER TABLE deliveries ADD COLUMN {column} {kind}"))?;
    }
    transaction.execute_batch(FAILURES)?;
    transaction.execute_batch(INDEX)?;
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
