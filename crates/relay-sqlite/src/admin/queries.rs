//! Numbers, pauses and dead letters, as an operator reads them of the store.

use jiff::Timestamp;
use relay::ports::admin::MAX_HELD_COUNT;
use relay::ports::dead_letters::DeadLetter;
use relay_core::delivery::{Direction, ReasonCode};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::delivery_row;

/// Deliveries of one direction that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: u32,
    pub oldest_received_at: Option<Timestamp>,
}

/// Numbers of deliveries of one direction. What its caller still waits for is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) waiting: u32,
    pub(crate) delivered: u32,
    pub(crate) dead: u32,
}

/// Returns at most `limit` dead letters that arrived after the one with this `seq`, in the order of arrival, with their
/// `seq`.
pub(crate) fn dead_letters(
    connection: &Connection,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<(i64, DeadLetter)>> {
    let ranges = Direction::ALL.map(|direction| {
        let (columns, direction) = (delivery_row::COLUMNS, direction.as_str());
        format!(
            "SELECT seq, {columns}, reason, status, attempts, settled_at FROM deliveries
             WHERE state = 'dead' AND direction = '{direction}' AND seq > ?1"
        )
    });
    let sql = format!("{} ORDER BY seq LIMIT ?2", ranges.join(" UNION ALL "));
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(params![after, limit], |row| Ok((row.get("seq")?, to_dead_letter(row)?)))?.collect()
}

/// Returns since when a direction is paused. It is in the file, so that it holds beside a running relay and after a restart.
pub(crate) fn paused_since(connection: &Connection, direction: Direction) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT since FROM paused WHERE direction = ?1")?
        .query_row([direction.as_str()], |row| delivery_row::timestamp(row, "since"))
        .optional()
        .map(Option::flatten)
}

pub(crate) fn totals(connection: &Connection, direction: Direction) -> rusqlite::Result<Totals> {
    connection
        .prepare_cached("SELECT waiting, delivered, dead FROM totals WHERE direction = ?1")?
        .query_row([direction.as_str()], |row| {
            Ok(Totals { waiting: row.get("waiting")?, delivered: row.get("delivered")?, dead: row.get("dead")? })
        })
}

/// Returns the number of held deliveries, at most [`MAX_HELD_COUNT`].
pub(crate) fn held_count(connection: &Connection, direction: Direction) -> rusqlite::Result<u32> {
    connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_held_of_direction
                                   WHERE state = 'waiting' AND held_since IS NOT NULL AND direction = ?1 LIMIT ?2)",
        )?
        .query_row(params![direction.as_str(), MAX_HELD_COUNT], |row| row.get(0))
}

pub(crate) fn backlog(connection: &Connection, direction: Direction) -> rusqlite::Result<Backlog> {
    let mut oldest = connection.prepare_cached(
        "SELECT received_at FROM deliveries WHERE state = ?1 AND direction = ?2 ORDER BY seq LIMIT 1",
    )?;
    let mut oldest_received_at = None;
    for state in ["waiting", "sending"] {
        let received_at = oldest
            .query_row([state, direction.as_str()], |row| delivery_row::timestamp(row, "received_at"))
            .optional()?
            .flatten();
        oldest_received_at = oldest_received_at.into_iter().chain(received_at).min();
    }
    Ok(Backlog { waiting: totals(connection, direction)?.waiting, oldest_received_at })
}

/// Returns the number of dead letters that were taken for another account than was served.
pub(crate) fn other_destination_count(connection: &Connection) -> rusqlite::Result<u32> {
    let sql = "SELECT count(*) FROM deliveries WHERE state = 'dead' AND reason = ?1";
    connection.query_row(sql, [ReasonCode::OtherDestination.as_str()], |row| row.get(0))
}

/// Returns when a delivery was last delivered.
pub(crate) fn last_delivered_at(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT max(settled_at) AS latest FROM deliveries WHERE state = 'delivered' AND settled_at IS NOT NULL";
    connection.query_row(sql, [], |row| delivery_row::timestamp(row, "latest"))
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
