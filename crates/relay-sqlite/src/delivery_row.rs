//! A delivery as a row of the table, and back.

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::contact::ContactKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, DeliveryKind, Direction, Reason};
use relay_core::idempotency::IdempotencyKey;
use rusqlite::{Connection, Row, Transaction, named_params, params};

/// The columns that [`from_row`] reads.
pub(crate) const COLUMNS: &str = "id, contact, kind, route, webhook_id, idempotency_key, body, received_at";

/// Inserts a delivery in a state, due at `next_at`. Returns false if its id is taken.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    delivery: &Delivery,
    contact_hash: Option<&str>,
    state: &str,
    next_at: Timestamp,
) -> rusqlite::Result<bool> {
    let (route, webhook_id, idempotency_key) = match &delivery.kind {
        DeliveryKind::ClayRow { route, webhook_id } => (Some(route), Some(webhook_id), None),
        DeliveryKind::LoopsContact => (None, None, None),
        DeliveryKind::LoopsEvent { key } => (None, None, Some(key.as_str())),
    };
    // The caller sends it at once, and may be gone before it is recorded what became of it.
    let unknown_since = (idempotency_key.is_some() && state == "direct").then_some(delivery.received_at);
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO deliveries
               (id, direction, state, contact, kind, route, webhook_id, idempotency_key, body, body_hash, received_at, next_at,
                contact_hash, event_hash, unknown_since)
             VALUES
               (:id, :direction, :state, :contact, :kind, :route, :webhook_id, :key, :body, :hash, :received_at, :next_at,
                :contact_hash, :event_hash, :unknown_since)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(named_params! {
            ":id": delivery.id.as_str(),
            ":direction": delivery.kind.direction().as_str(),
            ":state": state,
            ":contact": delivery.contact.as_str(),
            ":kind": delivery.kind.as_str(),
            ":route": route,
            ":webhook_id": webhook_id,
            ":key": idempotency_key,
            ":body": delivery.body.as_ref(),
            ":hash": BodyHash::compute(&delivery.body).as_str(),
            ":received_at": delivery.received_at.as_millisecond(),
            ":next_at": next_at.as_millisecond(),
            ":contact_hash": contact_hash,
            ":event_hash": delivery.content_key(),
            ":unknown_since": unknown_since.map(Timestamp::as_millisecond),
        })?;
    Ok(inserted == 1)
}

/// Inserts a delivery as a dead letter. Returns false if its id is taken.
pub(crate) fn insert_dead(
    transaction: &Transaction<'_>,
    delivery: &Delivery,
    contact_hash: Option<&str>,
    reason: Reason,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    if !insert(transaction, delivery, contact_hash, "dead", now)? {
        return Ok(false);
    }
    transaction
        .prepare_cached("UPDATE deliveries SET reason = ?2, status = ?3, settled_at = ?4 WHERE id = ?1")?
        .execute(params![delivery.id.as_str(), reason.code.as_str(), reason.status, now.as_millisecond()])?;
    Ok(true)
}

/// Reads a delivery from a row of [`COLUMNS`].
pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: DeliveryId::from_stored(row.get("id")?),
        contact: ContactKey::from_stored(row.get("contact")?),
        received_at: timestamp(row, "received_at")?.unwrap_or_default(),
        kind: kind(row)?,
        body: Bytes::from(row.get::<_, Option<Vec<u8>>>("body")?.unwrap_or_default()),
    })
}

pub(crate) fn kind(row: &Row<'_>) -> rusqlite::Result<DeliveryKind> {
    let text = |column: &str| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    Ok(match text("kind")?.as_str() {
        "row" => DeliveryKind::ClayRow { route: text("route")?, webhook_id: text("webhook_id")? },
        "event" => DeliveryKind::LoopsEvent { key: IdempotencyKey::from_stored(text("idempotency_key")?) },
        _ => DeliveryKind::LoopsContact,
    })
}

/// Reads a time, which is stored in Unix milliseconds.
pub(crate) fn timestamp(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let milliseconds: Option<i64> = row.get(column)?;
    Ok(milliseconds.map(|milliseconds| Timestamp::from_millisecond(milliseconds).unwrap_or_default()))
}

/// Ends the `direct` rows that were never acknowledged: one by its id, or all but those with the ids in `locked`, a JSON array.
/// A row that was a dead letter before is one again. Of an event that its destination may have, the record stays without
/// its body. Everything else is deleted.
pub(crate) fn end_direct(
    connection: &Connection,
    id: Option<&DeliveryId>,
    locked: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let condition = "settled_at IS NULL AND direction = ?1 AND state = 'direct' AND (?2 IS NULL OR id = ?2)
                     AND id NOT IN (SELECT value FROM json_each(?3))";
    let (direction, id) = (Direction::ClayToLoops.as_str(), id.map(DeliveryId::as_str));
    connection
        .prepare_cached(&format!(
            "UPDATE deliveries SET state = 'dead', settled_at = ?4 WHERE reason IS NOT NULL AND {condition}"
        ))?
        .execute(params![direction, id, locked, now.as_millisecond()])?;
    connection
        .prepare_cached(&format!("DELETE FROM deliveries WHERE unknown_since IS NULL AND {condition}"))?
        .execute(params![direction, id, locked])?;
    connection
        .prepare_cached(&format!("UPDATE deliveries SET body = NULL WHERE body IS NOT NULL AND {condition}"))?
        .execute(params![direction, id, locked])
        .map(drop)
}
