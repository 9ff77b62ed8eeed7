//! What a store holds, counted.

use jiff::Timestamp;
use relay::store::WebhookUse;
use rusqlite::{Connection, OptionalExtension as _};

use super::DeliveryState;

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
            state: DeliveryState::read(&state),
            deliveries: u64::try_from(deliveries).unwrap_or_default(),
            oldest: Timestamp::from_millisecond(row.get(3)?).unwrap_or_default(),
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
    Ok(last.and_then(|at| Timestamp::from_millisecond(at).ok()))
}

/// How a Clay webhook has been used, by its key.
///
/// # Errors
/// When the store cannot be read.
pub fn webhook_use(connection: &Connection, key: &str) -> rusqlite::Result<WebhookUse> {
    let row = connection
        .query_row("SELECT taken, refused_at, refused_status FROM clay_webhooks WHERE key = ?1", [key], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<u16>>(2)?))
        })
        .optional()?;
    let (taken, refused_at, status) = row.unwrap_or_default();
    Ok(WebhookUse {
        taken: u64::try_from(taken).unwrap_or_default(),
        refused: refused_at.and_then(|at| Timestamp::from_millisecond(at).ok()).zip(status),
    })
}
