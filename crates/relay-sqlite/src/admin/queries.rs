//! What an operator reads of the store. A delivery whose caller still waits for it (`direct`) is not listed.

use jiff::Timestamp;
use relay::ports::admin::{DeliveryQuery, DeliveryRecord};
use relay::ports::dead_letters::DeadLetter;
use relay_core::contact::ContactKey;
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use crate::{delivery_row, failure_counts};

/// A query, and conditions that the port does not have.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) query: DeliveryQuery,
    pub(crate) id: Option<String>,
    /// Only deliveries that arrived or were settled since then, or are not settled.
    pub(crate) changed_since: Option<Timestamp>,
}

/// Deliveries of one direction that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: u32,
    pub oldest_received_at: Option<Timestamp>,
}

/// Returns matching deliveries in the order of their arrival.
pub(crate) fn deliveries(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<DeliveryRecord>> {
    let mut records = without_failures(connection, filter)?;
    for record in &mut records {
        record.failures = failure_counts::load(connection, &record.id)?;
    }
    Ok(records)
}

/// Returns the same without their failures, which cost a query for each.
pub(crate) fn without_failures(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<DeliveryRecord>> {
    select(connection, filter, to_record)
}

/// Returns the dead letters in the order of their deliveries' arrival.
pub(crate) fn dead_letters(connection: &Connection) -> rusqlite::Result<Vec<DeadLetter>> {
    let query = DeliveryQuery { state: Some(DeliveryState::Dead), ..DeliveryQuery::default() };
    select(connection, &Filter { query, ..Filter::default() }, to_dead_letter)
}

/// Returns since when a direction is paused. It is in the file, so that it holds beside a running relay and after a restart.
pub(crate) fn paused_since(connection: &Connection, direction: Direction) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT since FROM paused WHERE direction = ?1")?
        .query_row([direction.as_str()], |row| delivery_row::timestamp(row, "since"))
        .optional()
        .map(Option::flatten)
}

pub(crate) fn backlog(connection: &Connection, direction: Direction) -> rusqlite::Result<Backlog> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) AS waiting, min(received_at) AS oldest FROM deliveries
         WHERE direction = ?1 AND settled_at IS NULL AND state IN ('waiting', 'sending')",
    )?;
    statement.query_row([direction.as_str()], |row| {
        Ok(Backlog { waiting: row.get("waiting")?, oldest_received_at: delivery_row::timestamp(row, "oldest")? })
    })
}

pub(crate) fn dead_letter_count(connection: &Connection, direction: Option<Direction>) -> rusqlite::Result<u32> {
    let sql = "SELECT count(*) FROM deliveries WHERE state = 'dead' AND (?1 IS NULL OR direction = ?1)";
    connection.query_row(sql, [direction.map(Direction::as_str)], |row| row.get(0))
}

fn select<T>(
    connection: &Connection,
    Filter { query, id, changed_since }: &Filter,
    map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let in_state = match query.state {
        None => "state <> 'direct'",
        Some(DeliveryState::Waiting) => "state IN ('waiting', 'sending')",
        Some(DeliveryState::Delivered) => "state = 'delivered'",
        Some(DeliveryState::Dead) => "state = 'dead'",
    };
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM
           (SELECT * FROM deliveries
            WHERE {in_state}
              AND (:id IS NULL OR id = :id)
              AND (:direction IS NULL OR direction = :direction)
              AND (:webhook_id IS NULL OR webhook_id = :webhook_id)
              AND (:contact_hash IS NULL OR contact_hash = :contact_hash)
              AND (:since IS NULL OR settled_at IS NULL OR settled_at >= :since OR received_at >= :since)
            ORDER BY seq DESC LIMIT :limit)
         ORDER BY seq"
    ))?;
    let parameters = named_params! {
        ":id": id,
        ":direction": query.direction.map(Direction::as_str),
        ":webhook_id": query.webhook_id,
        ":contact_hash": query.contact_hash,
        ":since": changed_since.map(Timestamp::as_millisecond),
        // SQLite takes a negative number for no limit.
        ":limit": query.limit.map_or(-1, i64::from),
    };
    statement.query_map(parameters, map)?.collect()
}

fn to_record(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    let stored_state: String = row.get("state")?;
    let (state, kind) = (to_state(&stored_state), delivery_row::kind(row)?);
    let settled_at = delivery_row::timestamp(row, "settled_at")?;
    Ok(DeliveryRecord {
        id: row.get("id")?,
        direction: kind.direction(),
        state,
        attempts: row.get("attempts")?,
        reason: row.get("reason")?,
        status: row.get("status")?,
        kind: kind.as_str().to_owned(),
        destination: ContactKey::from_stored(row.get("contact")?).account().label().map(str::to_owned),
        route: row.get::<_, Option<String>>("route")?.filter(|route| !route.is_empty()),
        webhook_id: row.get("webhook_id")?,
        contact_hash: row.get("contact_hash")?,
        received_at: delivery_row::timestamp(row, "received_at")?,
        first_attempt_at: delivery_row::timestamp(row, "first_attempt_at")?,
        last_attempt_at: delivery_row::timestamp(row, "last_attempt_at")?,
        next_attempt_at: delivery_row::timestamp(row, "next_at")?.filter(|_| stored_state == "waiting"),
        settled_at,
        died_at: settled_at.filter(|_| state == DeliveryState::Dead),
        dropped_at: None,
        failures: Vec::new(),
    })
}

fn to_dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let delivery = delivery_row::from_row(row)?;
    Ok(DeadLetter {
        key: delivery.id.as_str().to_owned(),
        direction: delivery.kind.direction(),
        reason: row.get("reason")?,
        status: row.get("status")?,
        attempts: Some(row.get("attempts")?),
        dead_lettered_at: delivery_row::timestamp(row, "settled_at")?,
        content: Ok(delivery),
    })
}

/// Returns the state that is shown for a stored one: a delivery that is being sent (`sending`) is waiting too.
pub(super) fn to_state(stored: &str) -> DeliveryState {
    stored.parse().unwrap_or(DeliveryState::Waiting)
}
