//! The pause of the fast path to Loops: rows join the queue meanwhile. The rate limiter's item records it.

use jiff::Timestamp;

use crate::ledger::items::PAUSED_AT;
use crate::ledger::limiter_item::LOOPS_LIMITER_KEY;
use crate::ledger::table::{LedgerTable, Update, time_attr};
use crate::sdk::error::AwsError;

/// Returns when an operator paused the fast path, if it is paused.
///
/// # Errors
/// When the table cannot be read.
pub async fn paused_since(table: &LedgerTable) -> Result<Option<Timestamp>, AwsError> {
    Ok(time_attr(&table.get(LOOPS_LIMITER_KEY).await?, PAUSED_AT))
}

/// Pauses or resumes the fast path. Returns false if it was so before.
///
/// # Errors
/// When the table cannot be written.
pub async fn set_paused(table: &LedgerTable, paused: bool, now: Timestamp) -> Result<bool, AwsError> {
    let update = if paused {
        Update::default().set(PAUSED_AT, now).only_if_unchanged(PAUSED_AT, None)
    } else {
        Update::default().remove(&[PAUSED_AT]).only_if(format!("attribute_exists({PAUSED_AT})"))
    };
    Ok(table.update(LOOPS_LIMITER_KEY, update.no_ttl(), now).await?.is_some())
}
