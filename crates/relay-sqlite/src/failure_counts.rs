//! Failed attempts of a delivery, counted by reason.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use relay::ports::admin::FailureCount;
use relay_core::delivery::Reason;
use rusqlite::{Connection, Transaction, params};

use crate::admin::pages::Records;
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

/// Reads the failures of these deliveries, the most frequent first.
pub(crate) fn load(connection: &Connection, records: &mut Records) -> rusqlite::Result<()> {
    let seq_by_id: BTreeMap<String, i64> = records.iter().map(|(seq, record)| (record.id.clone(), *seq)).collect();
    let ids = serde_json::Value::from_iter(seq_by_id.keys().map(String::as_str)).to_string();
    let mut statement = connection.prepare_cached(
        "SELECT delivery_id, reason, status, count, last_at FROM failures
         WHERE delivery_id IN (SELECT value FROM json_each(?1))",
    )?;
    let mut rows = statement.query([ids])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get("delivery_id")?;
        let failure = FailureCount {
            reason: row.get("reason")?,
            status: Some(row.get("status")?).filter(|status| *status > 0),
            count: row.get("count")?,
            last_at: delivery_row::timestamp(row, "last_at")?,
        };
        if let Some(record) = seq_by_id.get(&id).and_then(|seq| records.get_mut(seq)) {
            record.failures.push(failure);
        }
    }
    for record in records.values_mut() {
        record.failures.sort_by_key(|failure| Reverse((failure.count, failure.last_at)));
    }
    Ok(())
}
