//! How often each reason occurred at a delivery.

use jiff::Timestamp;
use relay_core::delivery::Reason;
use rusqlite::{Connection, Transaction, params};
use serde::Serialize;

use crate::delivery_row;

/// A reason that occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureCount {
    /// Its code.
    pub reason: String,
    /// The status of the far end's answer, if there was one.
    pub status: Option<u16>,
    /// How often.
    pub count: u32,
    /// When it occurred last.
    pub last_at: Timestamp,
}

/// Counts a reason, in the transaction that ends the attempt.
pub(crate) fn increment(transaction: &Transaction<'_>, id: &str, reason: Reason, now: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT INTO failures (delivery_id, reason, status, count, last_at) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT DO UPDATE SET count = count + 1, last_at = excluded.last_at",
        )?
        .execute(params![id, reason.code.as_str(), reason.status.unwrap_or_default(), now])
}

/// Forgets those of deliveries that are forgotten.
pub(crate) fn delete_orphans(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute("DELETE FROM failures WHERE delivery_id NOT IN (SELECT id FROM deliveries)", [])
}

/// How often the attempts at a delivery failed, by reason, the most frequent first.
///
/// # Errors
/// When the file cannot be read.
pub fn load_failure_counts(connection: &Connection, id: &str) -> rusqlite::Result<Vec<FailureCount>> {
    let mut statement = connection.prepare_cached(
        "SELECT reason, status, count, last_at FROM failures WHERE delivery_id = ?1 ORDER BY count DESC, last_at DESC",
    )?;
    let rows = statement.query_map([id], |row| {
        Ok(FailureCount {
            reason: row.get("reason")?,
            status: Some(row.get("status")?).filter(|status| *status > 0),
            count: row.get("count")?,
            last_at: delivery_row::timestamp(row.get("last_at")?),
        })
    })?;
    rows.collect()
}
