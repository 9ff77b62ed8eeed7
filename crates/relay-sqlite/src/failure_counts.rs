//! Failed attempts of a delivery, counted by reason.

use relay::ports::admin::FailureCount;
use relay_core::delivery::Reason;
use rusqlite::{Connection, Transaction, params};

use crate::delivery_row;

/// Counts a failure, in the transaction that ends the attempt.
pub(crate) fn increment(transaction: &Transaction<'_>, id: &str, reason: Reason, now: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT INTO failures (delivery_id, reason, status, count, last_at) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT DO UPDATE SET count = count + 1, last_at = excluded.last_at",
        )?
        .execute(params![id, reason.code.as_str(), reason.status.unwrap_or_default(), now])
}

/// Returns the counts of a delivery, the most frequent first.
pub(crate) fn load(connection: &Connection, id: &str) -> rusqlite::Result<Vec<FailureCount>> {
    let mut statement = connection.prepare_cached(
        "SELECT reason, status, count, last_at FROM failures WHERE delivery_id = ?1 ORDER BY count DESC, last_at DESC",
    )?;
    let counts = statement.query_map([id], |row| {
        Ok(FailureCount {
            reason: row.get("reason")?,
            status: Some(row.get("status")?).filter(|status| *status > 0),
            count: row.get("count")?,
            last_at: delivery_row::timestamp(row, "last_at")?,
        })
    })?;
    counts.collect()
}
