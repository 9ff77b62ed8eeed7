//! A delivery as a row of the table, and back.

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::contact::ContactKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, DeliveryKind, Direction, Reason};
use relay_core::idempotency::IdempotencyKey;
use rusqlite::{Connection, Row, Transaction, named_params, params};

/// The columns that [`from_row`] reads.
pub(crate) const COLUMNS: &str = "id, contact, kind, route, webhook_id, idempotency_key, body, received_at";

/// Time of the next attempt at a delivery that has another one of its contact before it. The trigger `next_of_contact` makes
/// it due.
pub(crate) const AFTER_ANOTHER_MS: i64 = i64::MAX;

/// A delivery to be stored, with what is computed of it before the connection is busy with it.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) delivery: Delivery,
    pub(crate) body_hash: BodyHash,
    contact_hash: Option<String>,
    content_key: Option<String>,
}

impl NewRow {
    pub(crate) fn new(delivery: Delivery, contact_hash: Option<String>) -> Self {
        let (body_hash, content_key) = (BodyHash::compute(&delivery.body), delivery.content_key());
        Self { delivery, body_hash, contact_hash, content_key }
    }

    /// The row of the delivery as another event under the same key.
    pub(crate) fn as_conflicting_event(&self) -> Self {
        Self::new(self.delivery.as_conflicting_event(), self.contact_hash.clone())
    }

    /// Inserts it in a state, due at `next_at`, or after the deliveries of its contact that wait or are being sent. Returns
    /// false if its id is taken.
    pub(crate) fn insert(
        &self,
        transaction: &Transaction<'_>,
        state: &str,
        next_at: Timestamp,
    ) -> rusqlite::Result<bool> {
        let delivery = &self.delivery;
        let (route, webhook_id, idempotency_key) = match &delivery.kind {
            DeliveryKind::ClayRow { route, webhook_id } => (Some(route), Some(webhook_id), None),
            kind => (None, None, kind.idempotency_key().map(IdempotencyKey::as_str)),
        };
        // The caller sends it at once, and may be gone before it is recorded what became of it.
        let unknown_since = (idempotency_key.is_some() && state == "direct").then_some(delivery.received_at);
        let inserted = transaction
            .prepare_cached(
                "INSERT OR FAIL INTO deliveries
                   (id, direction, state, contact, kind, route, webhook_id, idempotency_key, body, body_hash, received_at,
                    contact_hash, event_hash, unknown_since, next_at)
                 VALUES
                   (:id, :direction, :state, :contact, :kind, :route, :webhook_id, :key, :body, :hash, :received_at,
                    :contact_hash, :event_hash, :unknown_since,
                    iif(:state = 'waiting' AND EXISTS
                          (SELECT 1 FROM deliveries
                           WHERE direction = :direction AND contact = :contact AND state BETWEEN 'sending' AND 'waiting'),
                        :after_another, :next_at))
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
                ":hash": self.body_hash.as_str(),
                ":received_at": delivery.received_at.as_millisecond(),
                ":contact_hash": self.contact_hash,
                ":event_hash": self.content_key,
                ":unknown_since": unknown_since.map(Timestamp::as_millisecond),
                ":after_another": AFTER_ANOTHER_MS,
                ":next_at": next_at.as_millisecond(),
            })?;
        Ok(inserted == 1)
    }

    /// Inserts it as a dead letter. Returns false if its id is taken.
    pub(crate) fn insert_dead(
        &self,
        transaction: &Transaction<'_>,
        reason: Reason,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        if !self.insert(transaction, "dead", now)? {
            return Ok(false);
        }
        transaction
            .prepare_cached("UPDATE deliveries SET reason = ?2, status = ?3, settled_at = ?4 WHERE id = ?1")?
            .execute(params![self.delivery.id.as_str(), reason.code.as_str(), reason.status, now.as_millisecond()])?;
        Ok(true)
    }
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
        "create" => DeliveryKind::LoopsCreate,
        "delete" => DeliveryKind::LoopsDelete,
        "email" => DeliveryKind::LoopsEmail { key: IdempotencyKey::from_stored(text("idempotency_key")?) },
        _ => DeliveryKind::LoopsContact,
    })
}

/// Reads a time, which is stored in Unix milliseconds. None if there is none, or none that a clock can have.
pub(crate) fn timestamp(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let milliseconds: Option<i64> = row.get(column)?;
    Ok(milliseconds.and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok()))
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
