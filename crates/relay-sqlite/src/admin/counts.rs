//! What a store holds, counted.

use jiff::Timestamp;
use relay_core::delivery_state::DeliveryState;
use rusqlite::Connection;

use crate::admin::report::state_from_stored;
use crate::delivery_row;

/// The deliveries of a direction in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// `loops-to-clay` or `clay-to-loops`.
    pub direction: String,
    /// Where they stand.
    pub state: DeliveryState,
    /// How many there are.
    pub deliveries: u64,
    /// When the first of them arrived.
    pub oldest: Timestamp,
}

/// Counts the deliveries.
///
/// # Errors
/// When the store cannot be read.
pub fn counts(connection: &Connection) -> rusqlite::Result<Vec<Count>> {
    let mut statement = connection.prepare(
        "SELECT direction, CASE WHEN state IN ('delivered', 'dead') THEN state ELSE 'waiting' END AS stands,
                count(*), min(received_at)
         FROM deliveries WHERE state <> 'direct' GROUP BY direction, stands ORDER BY direction, stands",
    )?;
    let rows = statement.query_map([], |row| {
        let (state, deliveries): (String, i64) = (row.get(1)?, row.get(2)?);
        Ok(Count {
            direction: row.get(0)?,
            state: state_from_stored(&state),
            deliveries: u64::try_from(deliveries).unwrap_or_default(),
            oldest: delivery_row::time(row.get(3)?),
        })
    })?;
    rows.collect()
}

/// When something was last delivered.
///
/// # Errors
/// When the store cannot be read.
pub fn last_delivered(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let last: Option<i64> =
        connection
            .query_row("SELECT max(settled_at) FROM deliveries WHERE state = 'delivered'", [], |row| row.get(0))?;
    Ok(last.map(delivery_row::time))
}
