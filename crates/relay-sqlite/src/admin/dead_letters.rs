//! What a person does with dead letters. Each is one transaction, beside a running relay or without one.

use jiff::Timestamp;
use relay_core::delivery::Delivery;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::delivery_row;

/// What came of sending a dead letter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedriveOutcome {
    /// It waits for a worker, with the position in the order of arrival that it had.
    Requeued,
    /// It is no dead letter any more.
    NotFound,
    /// Something newer of its contact has been delivered, or is being sent: it would overwrite that.
    Superseded,
}

/// Makes a dead letter a delivery that waits; `even_if_older` also where it would overwrite something newer.
///
/// # Errors
/// When the file cannot be written; nothing is changed then.
pub fn redrive(
    connection: &mut Connection,
    id: &str,
    even_if_older: bool,
    now: Timestamp,
) -> rusqlite::Result<RedriveOutcome> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let outcome = plan_redrive(&transaction, id, even_if_older)?;
    if outcome == RedriveOutcome::Requeued {
        transaction.execute(
            "UPDATE deliveries
             SET state = 'waiting', next_at = ?2, settled_at = NULL, failing_since = NULL, held_since = NULL,
                 reason = NULL, status = NULL
             WHERE id = ?1 AND state = 'dead'",
            params![id, now.as_millisecond()],
        )?;
    }
    transaction.commit()?;
    Ok(outcome)
}

/// Returns what [`redrive`] would come to.
///
/// # Errors
/// When the file cannot be read.
pub fn plan_redrive(connection: &Connection, id: &str, even_if_older: bool) -> rusqlite::Result<RedriveOutcome> {
    let Some((seq, delivery)) = find_dead(connection, id)? else { return Ok(RedriveOutcome::NotFound) };
    if even_if_older || !delivery.updates_contact() {
        return Ok(RedriveOutcome::Requeued);
    }
    // What waits behind it goes after it: it keeps its position.
    let newer: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM deliveries
                        WHERE direction = ?1 AND contact = ?2 AND seq > ?3
                          AND state IN ('delivered', 'sending', 'direct'))",
        params![delivery.kind.direction().as_str(), delivery.contact.as_str(), seq],
        |row| row.get(0),
    )?;
    Ok(if newer { RedriveOutcome::Superseded } else { RedriveOutcome::Requeued })
}

/// Forgets a dead letter, and its body with it. False where it is none any more.
///
/// # Errors
/// When the file cannot be written; nothing is changed then.
pub fn delete(connection: &mut Connection, id: &str) -> rusqlite::Result<bool> {
    // What is dropped is not to be found in the file's free pages either.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let deleted = transaction.execute("DELETE FROM deliveries WHERE id = ?1 AND state = 'dead'", [id])? == 1;
    if deleted {
        transaction.execute("DELETE FROM failures WHERE delivery_id = ?1", [id])?;
    }
    transaction.commit()?;
    Ok(deleted)
}

fn find_dead(connection: &Connection, id: &str) -> rusqlite::Result<Option<(i64, Delivery)>> {
    let columns = delivery_row::COLUMNS;
    connection
        .query_row(&format!("SELECT seq, {columns} FROM deliveries WHERE id = ?1 AND state = 'dead'"), [id], |row| {
            Ok((row.get("seq")?, delivery_row::from_row(row)?))
        })
        .optional()
}
