//! What is stored under the id of a row that arrives, and what becomes of the two.
//!
//! See docs/adr/0003-event-idempotency.md.

use jiff::Timestamp;
use relay::ports::row_intake::Admission;
use relay_core::delivery::{Delivery, DeliveryId};
use relay_core::idempotency::IdempotencyKey;
use relay_core::policy::retry;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::delivery_row;

/// What the store has under a delivery's id.
pub(crate) struct StoredEvent {
    state: String,
    contact: String,
    content_key: Option<String>,
    unknown_since: Option<Timestamp>,
    /// Reason and status of its dead letter.
    reason: Option<String>,
    status: Option<u16>,
}

/// What a delivery is beside the one that is stored under its id.
pub(crate) enum Known {
    Repeat(Admission),
    /// Another event, which becomes a dead letter.
    Conflict(Admission),
    /// An event that was sent for a caller who is gone, and that cannot be sent again.
    Lost,
    /// Another event than the dead letter, which gives up the id.
    OtherDeadLetter,
    /// What is stored gives way: the row was run again.
    Rerun,
}

impl StoredEvent {
    /// Loads what is stored under an id.
    pub(crate) fn load(connection: &Connection, id: &DeliveryId) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT state, contact, event_hash, unknown_since, reason, status FROM deliveries WHERE id = ?1",
            )?
            .query_row([id.as_str()], |row| {
                Ok(Self {
                    state: row.get("state")?,
                    contact: row.get("contact")?,
                    content_key: row.get("event_hash")?,
                    unknown_since: delivery_row::timestamp(row, "unknown_since")?,
                    reason: row.get("reason")?,
                    status: row.get("status")?,
                })
            })
            .optional()
    }

    /// Whether a delivery is no other event than this one.
    pub(crate) fn content_is_of(&self, delivery: &Delivery) -> bool {
        !delivery.conflicts_with(self.content_key.as_deref())
    }

    /// Compares a delivery with this one. `in_flight`: whether the stored one is being sent for another caller.
    pub(crate) fn compare(&self, delivery: &Delivery, in_flight: bool, now: Timestamp) -> Known {
        let (is_same, is_dead) = (self.content_is_of(delivery), self.state == "dead");
        let repeat = |admission| match self.contact == delivery.contact.as_str() {
            true if is_same => Known::Repeat(admission),
            true => Known::Conflict(admission),
            false => Known::Conflict(Admission::KeyOfOtherContact),
        };
        match self.state.as_str() {
            "delivered" => repeat(Admission::AlreadyDelivered),
            "waiting" | "sending" => repeat(Admission::Queued),
            "direct" if in_flight => Known::Repeat(Admission::InFlight),
            // Loops might take another event under its key for a repeat of it.
            _ if self.unknown_since.is_some() && !is_same => Known::Repeat(Admission::OutcomeUnknown),
            _ if retry::is_resend_unsafe(self.unknown_since, now) => {
                if is_dead {
                    Known::Repeat(Admission::OutcomeUnknown)
                } else {
                    Known::Lost
                }
            }
            _ if is_dead && !is_same => Known::OtherDeadLetter,
            // A `direct` one is left of a caller that is gone.
            _ => Known::Rerun,
        }
    }
}

/// Deletes the row of a delivery.
pub(crate) fn delete(transaction: &Transaction<'_>, id: &DeliveryId) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id.as_str()]).map(drop)
}

/// Gives the row of a delivery what must not be forgotten of the one that it replaces.
pub(crate) fn carry_over(
    transaction: &Transaction<'_>,
    id: &DeliveryId,
    earlier: Option<&StoredEvent>,
    sends_now: bool,
) -> rusqlite::Result<()> {
    let Some(earlier) = earlier else { return Ok(()) };
    if let Some(unknown_since) = earlier.unknown_since {
        transaction
            .prepare_cached("UPDATE deliveries SET unknown_since = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), unknown_since.as_millisecond()])?;
    }
    if sends_now && earlier.reason.is_some() {
        // It is still a dead letter if the caller is gone before it is completed.
        transaction
            .prepare_cached("UPDATE deliveries SET reason = ?2, status = ?3 WHERE id = ?1")?
            .execute(params![id.as_str(), earlier.reason, earlier.status])?;
    }
    Ok(())
}

/// Gives the dead letter of an event an id of its own, because another event comes under its key.
pub(crate) fn rename_conflicting(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    let dead_letter = transaction
        .prepare_cached(&format!("SELECT {} FROM deliveries WHERE id = ?1", delivery_row::COLUMNS))?
        .query_row([id], delivery_row::from_row)?
        .as_conflicting_event();
    let key = dead_letter.kind.idempotency_key().map(IdempotencyKey::as_str);
    transaction
        .prepare_cached("UPDATE OR IGNORE deliveries SET id = ?2, idempotency_key = ?3 WHERE id = ?1")?
        .execute(params![id, dead_letter.id.as_str(), key])?;
    // If the id is taken, the same event is dead-lettered already.
    transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id]).map(drop)
}
