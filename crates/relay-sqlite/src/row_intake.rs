//! The intake of rows: onto the fast path, where a row is sent while its caller waits, or into the queue. A row gets its
//! position in the order of arrival before it is sent, so that it goes before everything later if it has to be queued.
//!
//! See docs/adr/0002-per-contact-ordering.md.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake, SyncSendResult};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction, Reason, ReasonCode};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::admin::queries::paused_since;
use crate::contact_locks::ContactLockGuard;
use crate::store::SqliteStore;
use crate::{delivery_row, failure_counts};

/// Maximum wait for other writes: admission, completion and the call between them fit into the caller's timeout.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

const ID_CONFLICT: Reason = Reason::without_status(ReasonCode::IdConflict);

impl RowIntake for SqliteStore {
    type Guard = ContactLockGuard;

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        // The lock comes first: a row that cannot be recorded holds it as well.
        let guard = if mode == DeliveryMode::Sync { self.locks.try_lock(delivery) } else { None };
        let (has_lock, locks) = (guard.is_some(), Arc::clone(&self.locks));
        let (delivery, contact_hash, now) = (delivery.clone(), self.contact_hash(delivery), self.clock.now());
        let (admission, conflict) = self
            .write_within(WRITE_TIMEOUT, move |transaction| {
                if !has_lock && locks.is_locked_by(&delivery) {
                    return Ok((Admission::InFlight, None));
                }
                delivery_row::remove_direct(transaction, None, &locks.locked_deliveries(), now)?;
                let existing = lookup(transaction, &delivery, has_lock)?;
                if let Existing::Admission(known) = existing {
                    if known == Admission::InFlight || !is_conflicting_event(transaction, &delivery)? {
                        return Ok((known, None));
                    }
                    let conflict = delivery.as_conflicting_event();
                    let inserted =
                        delivery_row::insert_dead(transaction, &conflict, contact_hash.as_deref(), ID_CONFLICT, now)?;
                    return Ok((known, inserted.then_some(conflict)));
                }
                let (state, admission) = if has_lock && may_send(transaction, &delivery.contact)? {
                    ("direct", Admission::SendNow)
                } else {
                    ("waiting", Admission::Queued)
                };
                delivery_row::insert(transaction, &delivery, contact_hash.as_deref(), state, now)?;
                if let (Existing::DeadLetter(reason, status), Admission::SendNow) = (existing, admission) {
                    // It is still a dead letter if the caller is gone before it is completed.
                    transaction
                        .prepare_cached("UPDATE deliveries SET reason = ?2, status = ?3 WHERE id = ?1")?
                        .execute(params![delivery.id.as_str(), reason, status])?;
                }
                Ok((admission, None))
            })
            .await?;
        if let Some(conflict) = conflict {
            DeliveryEvent {
                reason: Some(ID_CONFLICT),
                ..DeliveryEvent::for_delivery(&conflict, EventOutcome::DeadLettered)
            }
            .emit();
        }
        match admission {
            Admission::SendNow => guard.into_iter().for_each(ContactLockGuard::release_ownership),
            Admission::Queued => {
                drop(guard);
                self.work_available.notify_waiters();
            }
            Admission::AlreadyDelivered | Admission::InFlight => {}
        }
        Ok(admission)
    }

    async fn admit_without_record(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        // What is gone cannot tell what of the contact waits, and the row would not be remembered.
        self.files.check()?;
        let Some(guard) = self.locks.try_lock(delivery) else { return Ok(Admission::InFlight) };
        let delivery = delivery.clone();
        // Whatever is stored from here on finds the contact locked.
        let admission = self
            .read(move |connection| {
                let state: Option<String> = connection
                    .prepare_cached("SELECT state FROM deliveries WHERE id = ?1")?
                    .query_row([delivery.id.as_str()], |row| row.get(0))
                    .optional()?;
                Ok(match state.as_deref() {
                    // Another event under its key would have to be dead-lettered.
                    Some(_) if is_conflicting_event(connection, &delivery)? => Admission::InFlight,
                    Some("delivered") => Admission::AlreadyDelivered,
                    Some("waiting" | "sending") => Admission::Queued,
                    _ if may_send(connection, &delivery.contact)? => Admission::SendNow,
                    _ => Admission::InFlight,
                })
            })
            .await?;
        if admission == Admission::SendNow {
            guard.release_ownership();
        }
        Ok(admission)
    }

    fn guard(&self, delivery: &Delivery) -> ContactLockGuard {
        self.locks.guard(delivery)
    }

    async fn complete(&self, delivery: &Delivery, result: SyncSendResult) -> Result<(), StoreError> {
        let guard = self.locks.guard(delivery);
        if !self.locks.is_locked_by(delivery) {
            return Err(StoreError::new("the contact lock was taken over"));
        }
        let (delivery, contact_hash, now) = (delivery.clone(), self.contact_hash(delivery), self.clock.now());
        let completed = self
            .write_within(WRITE_TIMEOUT, move |transaction| {
                if complete(transaction, &delivery.id, result, now)? {
                    return Ok(true);
                }
                // It could not be recorded at its admission, and joins the queue only if nothing has joined it since.
                match result {
                    SyncSendResult::Rejected => return Ok(true),
                    SyncSendResult::Deferred { .. } if !has_no_pending(transaction, &delivery.contact)? => {
                        return Ok(false);
                    }
                    SyncSendResult::Deferred { .. } | SyncSendResult::Delivered => {}
                }
                delivery_row::insert(transaction, &delivery, contact_hash.as_deref(), "direct", now)?;
                complete(transaction, &delivery.id, result, now)
            })
            .await;
        drop(guard);
        self.work_available.notify_waiters();
        if completed? { Ok(()) } else { Err(StoreError::new("others have joined the queue before it")) }
    }
}

/// Records the result of a `direct` delivery. Returns false if there is none.
fn complete(
    transaction: &Transaction<'_>,
    id: &DeliveryId,
    result: SyncSendResult,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let (stored_id, now_ms) = (id.as_str(), now.as_millisecond());
    let changed = match result {
        SyncSendResult::Delivered => transaction
            .prepare_cached(
                "UPDATE deliveries
                 SET state = 'delivered', body = NULL, attempts = 1, settled_at = ?2, first_attempt_at = ?2,
                     last_attempt_at = ?2, reason = NULL, status = NULL
                 WHERE id = ?1 AND state = 'direct'",
            )?
            .execute(params![stored_id, now_ms])?,
        SyncSendResult::Rejected => delivery_row::remove_direct(transaction, Some(id), "[]", now)?,
        SyncSendResult::Deferred { attempts, retry_at, reason, no_early_retry } => {
            let (at, Reason { code, status }) = (retry_at.as_millisecond(), reason);
            let changed = transaction
                .prepare_cached(
                    "UPDATE deliveries
                     SET state = 'waiting', attempts = ?3, next_at = ?4, failing_since = ?2, reason = ?5,
                         status = ?6, first_attempt_at = ?2, last_attempt_at = ?2, not_before = iif(?7, ?4, NULL)
                     WHERE id = ?1 AND state = 'direct'",
                )?
                .execute(params![stored_id, now_ms, attempts, at, code.as_str(), status, no_early_retry])?;
            // The attempts while the caller waited count as one failure, by the last reason.
            if changed == 1 {
                failure_counts::increment(transaction, stored_id, reason, now_ms)?;
            }
            changed
        }
    };
    Ok(changed == 1)
}

/// What the store has under a delivery's id.
enum Existing {
    New,
    Admission(Admission),
    /// A dead letter with this reason and status, which the delivery replaces: the row was run again.
    DeadLetter(String, Option<u16>),
}

fn lookup(transaction: &Transaction<'_>, delivery: &Delivery, has_lock: bool) -> rusqlite::Result<Existing> {
    let id = delivery.id.as_str();
    let stored: Option<(String, Option<String>, Option<u16>)> = transaction
        .prepare_cached("SELECT state, reason, status FROM deliveries WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((state, reason, status)) = stored else { return Ok(Existing::New) };
    Ok(match state.as_str() {
        "delivered" => Existing::Admission(Admission::AlreadyDelivered),
        "direct" if !has_lock => Existing::Admission(Admission::InFlight),
        "dead" if is_conflicting_event(transaction, delivery)? => {
            rename_conflicting(transaction, id)?;
            Existing::New
        }
        // Only the holder of the contact lock sends it: the result of a `direct` one could not be recorded.
        "dead" | "direct" => {
            transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id])?;
            reason.map_or(Existing::New, |reason| Existing::DeadLetter(reason, status))
        }
        _ => Existing::Admission(Admission::Queued),
    })
}

/// Gives the dead letter of an event an id of its own, because another event comes under its key.
fn rename_conflicting(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    let dead_letter = transaction
        .prepare_cached(&format!("SELECT {} FROM deliveries WHERE id = ?1", delivery_row::COLUMNS))?
        .query_row([id], delivery_row::from_row)?
        .as_conflicting_event();
    let key = match &dead_letter.kind {
        DeliveryKind::LoopsEvent { key } => Some(key.as_str()),
        DeliveryKind::ClayRow { .. } | DeliveryKind::LoopsContact => None,
    };
    transaction
        .prepare_cached("UPDATE OR IGNORE deliveries SET id = ?2, idempotency_key = ?3 WHERE id = ?1")?
        .execute(params![id, dead_letter.id.as_str(), key])?;
    // If the id is taken, the same event is dead-lettered already.
    transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id]).map(drop)
}

/// Returns whether another event is stored under the id of an event.
fn is_conflicting_event(connection: &Connection, delivery: &Delivery) -> rusqlite::Result<bool> {
    let Some(content_key) = delivery.content_key() else { return Ok(false) };
    let stored_key: Option<String> = connection
        .prepare_cached("SELECT event_hash FROM deliveries WHERE id = ?1")?
        .query_row([delivery.id.as_str()], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(stored_key.is_some_and(|known| known != content_key))
}

fn may_send(connection: &Connection, contact: &ContactKey) -> rusqlite::Result<bool> {
    Ok(paused_since(connection, Direction::ClayToLoops)?.is_none() && has_no_pending(connection, contact)?)
}

/// Returns whether no delivery of a contact waits or is being sent by a worker. The holder of the contact lock asks, so that
/// the callers of other `direct` rows are gone.
fn has_no_pending(connection: &Connection, contact: &ContactKey) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT NOT EXISTS
               (SELECT 1 FROM deliveries
                WHERE direction = ?1 AND contact = ?2 AND settled_at IS NULL AND state <> 'direct')",
        )?
        .query_row([Direction::ClayToLoops.as_str(), contact.as_str()], |row| row.get(0))
}
