//! A delivery as a row of the table, and back.

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::contact::ContactKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use rusqlite::{Row, Transaction, named_params, params};

/// The columns that [`from_row`] reads.
pub(crate) const COLUMNS: &str = "id, contact, kind, route, webhook_id, idempotency_key, body, received_at";

/// Inserts a delivery in a state, due at a time; false where its id is taken. `contact_hash` is by what a person finds it.
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
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO deliveries
               (id, direction, state, contact, kind, route, webhook_id, idempotency_key, body, body_hash, received_at, next_at,
                contact_hash, event_hash)
             VALUES
               (:id, :direction, :state, :contact, :kind, :route, :webhook_id, :key, :body, :hash, :received_at, :next_at,
                :contact_hash, :event_hash)
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
        })?;
    Ok(inserted == 1)
}

/// Inserts a delivery that is dead already; false where its id is taken.
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
    let kind_name: String = row.get("kind")?;
    let kind = match kind_name.as_str() {
        "row" => DeliveryKind::ClayRow {
            route: row.get::<_, Option<String>>("route")?.unwrap_or_default(),
            webhook_id: row.get::<_, Option<String>>("webhook_id")?.unwrap_or_default(),
        },
        "event" => {
            let key: Option<String> = row.get("idempotency_key")?;
            DeliveryKind::LoopsEvent { key: IdempotencyKey::from_stored(key.unwrap_or_default()) }
        }
        _ => DeliveryKind::LoopsContact,
    };
    Ok(Delivery {
        id: DeliveryId::from_stored(row.get("id")?),
        contact: ContactKey::from_stored(row.get("contact")?),
        received_at: timestamp(row.get("received_at")?),
        kind,
        body: Bytes::from(row.get::<_, Option<Vec<u8>>>("body")?.unwrap_or_default()),
    })
}

/// A stored time.
pub(crate) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// A stored reason.
pub(crate) fn parse_reason(code: Option<&str>, status: Option<u16>) -> Option<Reason> {
    Some(Reason { code: ReasonCode::parse(code?)?, status })
}
