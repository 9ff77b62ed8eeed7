//! What a person is shown of the store.

use jiff::Timestamp;
use relay_core::delivery_state::DeliveryState;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

use crate::delivery_row;
use crate::failure_counts::{FailureCount, failures_of};

/// Returns the state that is shown for a stored one. A delivery that is being sent is waiting too.
pub(crate) fn state_from_stored(stored: &str) -> DeliveryState {
    stored.parse().unwrap_or(DeliveryState::Waiting)
}

/// One delivery, as it is listed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryReport {
    /// Its id.
    pub id: String,
    /// `loops-to-clay` or `clay-to-loops`.
    pub direction: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// Why it waits or died.
    pub reason: Option<String>,
    /// The status of the far end's last answer, where that is the reason.
    pub status: Option<u16>,
    /// What it is: `row`, `contact` or `event`.
    pub kind: String,
    /// The route of a row.
    pub route: Option<String>,
    /// The webhook id of a row.
    pub webhook_id: Option<String>,
    /// When the relay took it.
    #[serde(serialize_with = "as_text")]
    pub received_at: Timestamp,
    /// When it is tried next.
    #[serde(serialize_with = "as_optional_text")]
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered or died.
    #[serde(serialize_with = "as_optional_text")]
    pub settled_at: Option<Timestamp>,
    /// When it died, if it did.
    #[serde(serialize_with = "as_optional_text")]
    pub died_at: Option<Timestamp>,
    /// When the first attempt was begun.
    #[serde(serialize_with = "as_optional_text")]
    pub first_attempt_at: Option<Timestamp>,
    /// When the last attempt was begun.
    #[serde(serialize_with = "as_optional_text")]
    pub last_attempt_at: Option<Timestamp>,
    /// How often each reason occurred.
    pub failures: Vec<FailureCount>,
}

/// Which deliveries are listed.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// At most that many, the latest.
    pub limit: u32,
}

/// The condition that a delivery is in a state; in any, where none is given. What its caller still waits for is in none.
pub(crate) const fn state_condition(state: Option<DeliveryState>) -> &'static str {
    match state {
        None => "state <> 'direct'",
        Some(DeliveryState::Waiting) => "state IN ('waiting', 'sending')",
        Some(DeliveryState::Delivered) => "state = 'delivered'",
        Some(DeliveryState::Dead) => "state = 'dead'",
    }
}

/// Lists deliveries in the order of their arrival.
///
/// # Errors
/// When the file cannot be read.
pub fn list(connection: &Connection, filter: &ListFilter) -> rusqlite::Result<Vec<DeliveryReport>> {
    let states = state_condition(filter.state);
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM (SELECT * FROM deliveries WHERE {states} ORDER BY place DESC LIMIT ?1) ORDER BY place"
    ))?;
    let rows = statement.query_map(params![filter.limit], |row| {
        let stored: String = row.get("state")?;
        let state = state_from_stored(&stored);
        let time = |column: &str| row.get::<_, Option<i64>>(column).map(|at| at.map(delivery_row::time));
        let settled_at = time("settled_at")?;
        let id: String = row.get("id")?;
        let reason: Option<String> = row.get("reason")?;
        let status: Option<u16> = row.get("status")?;
        let reason = delivery_row::reason(reason.as_deref(), status);
        Ok(DeliveryReport {
            direction: row.get("direction")?,
            state,
            attempts: row.get("attempts")?,
            reason: reason.map(|reason| reason.code.as_str().to_owned()),
            status: reason.and_then(|reason| reason.status),
            kind: row.get("kind")?,
            route: row.get::<_, Option<String>>("route")?.filter(|route| !route.is_empty()),
            webhook_id: row.get("webhook_id")?,
            received_at: delivery_row::time(row.get("received_at")?),
            next_attempt_at: match stored.as_str() {
                "waiting" => Some(delivery_row::time(row.get("next_at")?)),
                _ => None,
            },
            settled_at,
            died_at: settled_at.filter(|_| state == DeliveryState::Dead),
            first_attempt_at: time("first_attempt_at")?,
            last_attempt_at: time("last_attempt_at")?,
            failures: failures_of(connection, &id)?,
            id,
        })
    })?;
    rows.collect()
}

/// Where the deliveries of one webhook stand; nothing where there is none.
///
/// # Errors
/// When the file cannot be read.
pub fn webhook_state(connection: &Connection, webhook_id: &str) -> rusqlite::Result<Option<DeliveryState>> {
    let state: Option<String> = connection
        .query_row(
            "SELECT state FROM deliveries WHERE webhook_id = ?1 ORDER BY settled_at IS NULL DESC LIMIT 1",
            [webhook_id],
            |row| row.get(0),
        )
        .optional()?;
    Ok(state.as_deref().map(state_from_stored))
}

pub(crate) fn as_text<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn as_optional_text<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}
