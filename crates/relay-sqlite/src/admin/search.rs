//! What an operator looks for in the store, beside a running relay or without one.

use jiff::Timestamp;
use relay_core::delivery::{Delivery, Direction};
use relay_core::delivery_state::DeliveryState;
use rusqlite::{Connection, Row, named_params};

use crate::admin::queue_state::{QueueStatus, waiting_status};
use crate::admin::report::{state_condition, state_from_stored};
use crate::delivery_row;

/// Which deliveries are looked for; what is not given does not matter.
#[derive(Debug, Clone, Default)]
pub struct StoreQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only this way.
    pub direction: Option<Direction>,
    /// Only of the contact with this [hash](relay_core::contact::ContactKey::log_hash).
    pub contact_hash: Option<String>,
    /// Only of this webhook.
    pub webhook_id: Option<String>,
    /// Only those that were taken or ended since then, or have not ended.
    pub since: Option<Timestamp>,
    /// At most that many, the latest.
    pub limit: Option<u32>,
}

/// A delivery with everything that the store knows of it.
#[derive(Debug, Clone)]
pub struct StoredDelivery {
    /// What was to be delivered; without a body where it is delivered.
    pub delivery: Delivery,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// Why it waits or died, as a word.
    pub reason: Option<String>,
    /// The status of the far end's last answer, where that is the reason.
    pub status: Option<u16>,
    /// Its contact's hash.
    pub contact_hash: Option<String>,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered or died.
    pub settled_at: Option<Timestamp>,
    /// When it was tried first.
    pub first_attempt_at: Option<Timestamp>,
    /// When it was tried last.
    pub last_attempt_at: Option<Timestamp>,
}

/// Looks deliveries up, in the order of their arrival. What its caller still waits for is not among them.
///
/// # Errors
/// When the file cannot be read.
pub fn query(connection: &Connection, search: &StoreQuery) -> rusqlite::Result<Vec<StoredDelivery>> {
    let conditions = [
        state_condition(search.state),
        ":id IS NULL OR id = :id",
        ":direction IS NULL OR direction = :direction",
        ":webhook_id IS NULL OR webhook_id = :webhook_id",
        ":since IS NULL OR settled_at IS NULL OR settled_at >= :since OR received_at >= :since",
        ":hash IS NULL OR contact_hash = :hash",
    ];
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM (SELECT * FROM deliveries WHERE ({}) ORDER BY seq DESC LIMIT :limit) ORDER BY seq",
        conditions.join(") AND (")
    ))?;
    let rows = statement.query_map(
        named_params! {
            ":id": search.id,
            ":direction": search.direction.map(Direction::as_str),
            ":webhook_id": search.webhook_id,
            ":since": search.since.map(Timestamp::as_millisecond),
            ":hash": search.contact_hash,
            // SQLite takes a negative number for no limit.
            ":limit": search.limit.map_or(-1, i64::from),
        },
        from_row,
    )?;
    rows.collect()
}

/// What waits in a direction, and how many dead letters it has.
///
/// # Errors
/// When the file cannot be read.
pub fn queue_status(connection: &Connection, direction: Direction) -> rusqlite::Result<(QueueStatus, u32)> {
    let sql = "SELECT count(*) FROM deliveries WHERE direction = ?1 AND state = 'dead'";
    Ok((waiting_status(connection, direction)?, connection.query_row(sql, [direction.as_str()], |row| row.get(0))?))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredDelivery> {
    let stored: String = row.get("state")?;
    let timestamp = |column: &str| row.get::<_, Option<i64>>(column).map(|at| at.map(delivery_row::timestamp));
    Ok(StoredDelivery {
        delivery: delivery_row::from_row(row)?,
        state: state_from_stored(&stored),
        attempts: row.get("attempts")?,
        reason: row.get("reason")?,
        status: row.get("status")?,
        contact_hash: row.get("contact_hash")?,
        next_attempt_at: if stored == "waiting" { timestamp("next_at")? } else { None },
        settled_at: timestamp("settled_at")?,
        first_attempt_at: timestamp("first_attempt_at")?,
        last_attempt_at: timestamp("last_attempt_at")?,
    })
}
