//! Pages of deliveries. A delivery whose caller still waits for it (`direct`) is in none.
//!
//! A page costs what it returns, however much is settled or waits, with two exceptions: of what waits, the deliveries of one
//! contact are found by reading all, and those with one reason by reading [`MAX_FILTERED`] at a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relay::ports::admin::{DeliveryQuery, DeliveryRecord};
use relay_core::account::AccountId;
use relay_core::contact::ContactKey;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use crate::data_dir::config::ROUTE_NAME;
use crate::{delivery_row, failure_counts};

/// The columns of a record. The body is not read for it.
const COLUMNS: &str = "seq, id, state, contact, kind, route, webhook_id, idempotency_key, attempts, reason, status,
    contact_hash, received_at, first_attempt_at, last_attempt_at, next_at, held_since, settled_at";
/// Deliveries that a page reads at most to find those with a reason.
const MAX_FILTERED: u32 = 2000;

/// Deliveries by `seq`, the order of arrival.
pub(crate) type Records = BTreeMap<i64, DeliveryRecord>;

/// Returns the latest deliveries that match and arrived before the one with this `seq`, and the `seq` before which the next page
/// begins: None if nothing was found at all.
pub(crate) fn page(
    connection: &Connection,
    query: &DeliveryQuery,
    limit: u32,
    before: i64,
) -> rusqlite::Result<(Records, Option<i64>)> {
    let mut records = match &query.webhook_id {
        Some(webhook_id) => of_webhook(connection, query, webhook_id, before)?,
        None => select(connection, &page_sql(query), params![before, limit, query.contact_hash, query.reason])?,
    };
    let mut next = records.keys().next().copied();
    records.retain(|_, record| query.reason.is_none() || record.reason == query.reason);
    // A webhook has a row more for each other body that came under its id.
    while records.len() > limit as usize {
        records.pop_first();
        next = records.keys().next().copied();
    }
    failure_counts::load(connection, &mut records)?;
    Ok((records, next))
}

/// Returns the latest deliveries that match, from as many pages as it takes.
pub(crate) fn latest(connection: &Connection, query: &DeliveryQuery, limit: u32) -> rusqlite::Result<Records> {
    let (mut records, mut next) = page(connection, query, limit, i64::MAX)?;
    while let (Some(before), missing @ 1..) = (next, (limit as usize).saturating_sub(records.len())) {
        let (more, after) = page(connection, query, u32::try_from(missing).unwrap_or(limit), before)?;
        records.extend(more);
        next = after;
    }
    Ok(records)
}

/// Returns the body of a delivery that waits or is dead.
pub(crate) fn body(connection: &Connection, id: &DeliveryId) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT body FROM deliveries WHERE id = ?1 AND state <> 'direct'";
    connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional().map(Option::flatten)
}

/// Returns one delivery.
pub(crate) fn delivery(connection: &Connection, id: &DeliveryId) -> rusqlite::Result<Option<DeliveryRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = ?1 AND state <> 'direct'");
    let mut records = select(connection, &sql, [id.as_str()])?;
    failure_counts::load(connection, &mut records)?;
    Ok(records.into_values().next())
}

/// Returns the deliveries that arrived after the one with this `seq`, that are being sent, and that were settled or failed
/// since a time, without their failures.
pub(crate) fn changed(connection: &Connection, after: i64, since: Timestamp) -> rusqlite::Result<Records> {
    let conditions = [
        "seq > ?1 AND state <> 'direct'",
        "state = 'sending'",
        "state IN ('delivered', 'dead') AND settled_at IS NOT NULL AND settled_at >= ?2",
        "id IN (SELECT delivery_id FROM failures WHERE last_at >= ?2) AND state <> 'direct'",
    ];
    let selects = conditions.map(|condition| format!("SELECT {COLUMNS} FROM deliveries WHERE {condition}"));
    select(connection, &selects.join(" UNION ALL "), [after, since.as_millisecond()])
}

/// Returns the ids that the deliveries of a webhook have: by route, and by the accounts of Clay that this relay knows.
pub(crate) fn ids_of_webhook(webhook_id: &str, routes: &[String]) -> Vec<DeliveryId> {
    // An event that no route takes has none.
    let own_routes = [ROUTE_NAME, ""];
    let routes = routes.iter().map(String::as_str).chain(own_routes.into_iter().filter(|_| routes.is_empty()));
    let accounts = [AccountId::default(), AccountId::simulated()];
    routes
        .flat_map(|route| accounts.iter().map(move |account| DeliveryId::for_webhook_in(route, webhook_id, account)))
        .collect()
}

/// Returns the state that is shown for a stored one: a delivery that is being sent (`sending`) is waiting too.
pub(crate) fn to_state(stored: &str) -> DeliveryState {
    stored.parse().unwrap_or(DeliveryState::Waiting)
}

/// Returns the statement of a page: it merges one range of an index for each state and direction.
fn page_sql(query: &DeliveryQuery) -> String {
    let states: &[&str] = match query.state {
        None | Some(DeliveryState::Waiting) if query.held => &["waiting"],
        // What is delivered has no reason.
        None if query.reason.is_some() => &["waiting", "sending", "dead"],
        None => &["waiting", "sending", "delivered", "dead"],
        Some(DeliveryState::Waiting) => &["waiting", "sending"],
        Some(DeliveryState::Delivered) => &["delivered"],
        Some(DeliveryState::Dead) => &["dead"],
    };
    let directions = Direction::ALL.into_iter().filter(|direction| query.direction.is_none_or(|it| it == *direction));
    let mut ranges = Vec::new();
    for direction in directions.map(Direction::as_str) {
        for state in states {
            let of_contact = "(?3 IS NULL OR contact_hash = ?3)";
            let (index, condition) = match *state {
                "waiting" if query.held => {
                    ("INDEXED BY deliveries_held_of_direction", format!("held_since IS NOT NULL AND {of_contact}"))
                }
                "delivered" | "dead" if query.contact_hash.is_some() => {
                    ("INDEXED BY deliveries_of_contact", "settled_at IS NOT NULL AND contact_hash = ?3".to_owned())
                }
                "dead" if query.reason.is_some() => ("INDEXED BY deliveries_of_reason", "reason = ?4".to_owned()),
                _ => ("INDEXED BY deliveries_of_state", of_contact.to_owned()),
            };
            ranges.push(format!(
                "SELECT {COLUMNS} FROM deliveries {index}
                 WHERE state = '{state}' AND direction = '{direction}' AND {condition} AND seq < ?1"
            ));
        }
    }
    let max_rows = format!("iif(?4 IS NULL, ?2, max(?2, {MAX_FILTERED}))");
    format!("{} ORDER BY seq DESC LIMIT {max_rows}", ranges.join(" UNION ALL "))
}

/// Returns the few deliveries of one webhook that match and arrived before the one with this `seq`.
fn of_webhook(
    connection: &Connection,
    query: &DeliveryQuery,
    webhook_id: &str,
    before: i64,
) -> rusqlite::Result<Records> {
    // The id of what came with another body under the same `webhook-id` begins with its id and `_`.
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries WHERE id >= ?1 AND id < ?1 || '`' AND state <> 'direct' AND seq < ?2"
    );
    let mut records = Records::new();
    for id in ids_of_webhook(webhook_id, &query.routes) {
        records.extend(select(connection, &sql, params![id.as_str(), before])?);
    }
    records.retain(|_, record| {
        query.state.is_none_or(|state| record.state == state)
            && query.direction.is_none_or(|direction| record.direction == direction)
            && (query.contact_hash.is_none() || record.contact_hash == query.contact_hash)
            && (!query.held || record.held_since.is_some())
    });
    Ok(records)
}

fn select(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Records> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(parameters, |row| Ok((row.get("seq")?, to_record(row)?)))?.collect()
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
        held_since: delivery_row::timestamp(row, "held_since")?.filter(|_| state == DeliveryState::Waiting),
        settled_at,
        died_at: settled_at.filter(|_| state == DeliveryState::Dead),
        dropped_at: None,
        failures: Vec::new(),
    })
}
