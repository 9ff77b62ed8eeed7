//! The lane past the queue. Who is admitted gets a position in the order of arrival before anything is sent, so that a
//! row that has to wait after all waits in front of everything that came later.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay::ports::fast_path::{Admission, DeliveryMode, FastPath, FastPathResult};
use relay::ports::queue::StoreError;
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction, Reason, ReasonCode};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::admin::pause::paused_since;
use crate::contact_locks::ContactLockGuard;
use crate::delivery_row::{self, remove_abandoned};
use crate::failure_counts;
use crate::store::SqliteStore;

/// How long a row waits for its turn at the store, at its beginning and at its end: both, and the call between, fit into
/// the caller's time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why another event under a known key is kept, and not sent.
const ID_CONFLICT: Reason = Reason::without_status(ReasonCode::IdConflict);

impl FastPath for SqliteStore {
    type Guard = ContactLockGuard;

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        // In memory first: what cannot be recorded has its lane there as well.
        let guard = if mode == DeliveryMode::Sync { self.locks.try_lock(delivery) } else { None };
        let (has_lock, locks) = (guard.is_some(), Arc::clone(&self.locks));
        let (delivery, contact_hash, now) = (delivery.clone(), self.contact_hash(delivery), self.now());
        let (admission, conflict) = self
            .write_within(WRITE_TIMEOUT, move |transaction| {
                if !has_lock && locks.is_locked_by(&delivery) {
                    return Ok((Admission::InFlight, None));
                }
                remove_abandoned(transaction, &locks.locked_deliveries(), now)?;
                let existing = lookup(transaction, &delivery, has_lock)?;
                if let Existing::Admission(known) = existing {
                    let is_conflict = known != Admission::InFlight && is_conflicting_event(transaction, &delivery)?;
                    let conflict = is_conflict.then(|| delivery.as_conflicting_event());
                    let inserted = match &conflict {
                        Some(conflict) => {
                            delivery_row::insert_dead(transaction, conflict, contact_hash.as_deref(), ID_CONFLICT, now)?
                        }
                        None => false,
                    };
                    return Ok((known, conflict.filter(|_| inserted)));
                }
                let (state, admission) = if has_lock && may_send(transaction, &delivery.contact)? {
                    ("direct", Admission::SendNow)
                } else {
                    ("waiting", Admission::Queued)
                };
                delivery_row::insert(transaction, &delivery, contact_hash.as_deref(), state, now)?;
                if let (Existing::DeadLetter(reason, status), Admission::SendNow) = (existing, admission) {
                    // Until it has ended otherwise, it is still a dead letter: its caller may be gone in the next moment.
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
        let Some(guard) = self.locks.try_lock(delivery) else { return Ok(Admission::InFlight) };
        let delivery = delivery.clone();
        // What is stored from here on finds the lane taken.
        let admission = self
            .read(move |connection| {
                Ok(match stored_state(connection, &delivery.id)?.as_deref() {
                    // Another event under its key would have to be kept.
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

    async fn complete(&self, delivery: &Delivery, result: FastPathResult) -> Result<(), StoreError> {
        let guard = self.locks.guard(delivery);
        if !self.locks.is_locked_by(delivery) {
            return Err(StoreError::new("the lane was given to somebody else"));
        }
        let (delivery, contact_hash, now) = (delivery.clone(), self.contact_hash(delivery), self.now());
        let completed = self
            .write_within(WRITE_TIMEOUT, move |transaction| {
                if complete(transaction, &delivery.id, result, now)? {
                    return Ok(true);
                }
                // It could not be recorded when it came. It joins the queue only where nothing has joined it since.
                match result {
                    FastPathResult::Rejected => return Ok(true),
                    FastPathResult::Deferred { .. } if !has_no_pending(transaction, &delivery.contact)? => {
                        return Ok(false);
                    }
                    FastPathResult::Deferred { .. } | FastPathResult::Delivered => {}
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

/// Records how a delivery has ended whose caller waits; false where it is not on record as one.
fn complete(
    transaction: &Transaction<'_>,
    id: &DeliveryId,
    result: FastPathResult,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let (id, now) = (id.as_str(), now.as_millisecond());
    let changed = match result {
        FastPathResult::Delivered => transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 'delivered', body = NULL, attempts = 1, settled_at = ?2, first_attempt_at = ?2,
                     last_attempt_at = ?2, reason = NULL, status = NULL
                 WHERE id = ?1 AND state = 'direct'",
            )?
            .execute(params![id, now])?,
        FastPathResult::Rejected => {
            let restored = transaction
                .prepare_cached(
                    "UPDATE deliveries SET state = 'dead', settled_at = ?2
                     WHERE id = ?1 AND state = 'direct' AND reason IS NOT NULL",
                )?
                .execute(params![id, now])?;
            let deleted = transaction
                .prepare_cached("DELETE FROM deliveries WHERE id = ?1 AND state = 'direct'")?
                .execute([id])?;
            restored + deleted
        }
        FastPathResult::Deferred { attempts, retry_at, reason, no_early_retry } => {
            let changed = transaction
                .prepare_cached(
                    "UPDATE deliveries
                     SET state = 'waiting', attempts = ?3, next_at = ?4, failing_since = ?2, reason = ?5,
                         status = ?6, first_attempt_at = ?2, last_attempt_at = ?2, not_before = iif(?7, ?4, NULL)
                     WHERE id = ?1 AND state = 'direct'",
                )?
                .execute(params![id, now, attempts, retry_at.as_millisecond(), reason.code.as_str(), reason.status, no_early_retry])?;
            // What the caller has waited for counts once, by its last reason.
            if changed == 1 {
                failure_counts::increment(transaction, id, reason, now)?;
            }
            changed
        }
    };
    Ok(changed == 1)
}

/// What is known of a delivery.
enum Existing {
    /// Nothing.
    New,
    /// This is how it is answered.
    Admission(Admission),
    /// It was a dead letter, for this reason and with this status of the far end's: somebody runs the row again, and it gets
    /// another chance, in the place of its letter.
    DeadLetter(String, Option<u16>),
}

fn lookup(transaction: &Transaction<'_>, delivery: &Delivery, has_lock: bool) -> rusqlite::Result<Existing> {
    let id = delivery.id.as_str();
    Ok(match stored_state(transaction, &delivery.id)?.as_deref() {
        None => Existing::New,
        Some("delivered") => Existing::Admission(Admission::AlreadyDelivered),
        Some("direct") if !has_lock => Existing::Admission(Admission::InFlight),
        Some("dead") if is_conflicting_event(transaction, delivery)? => {
            rename_conflicting(transaction, id)?;
            Existing::New
        }
        // Who has the lane now is the only one who sends it: what came of a `direct` one could not be recorded.
        Some("dead" | "direct") => {
            let (reason, status): (Option<String>, _) = transaction
                .prepare_cached("SELECT reason, status FROM deliveries WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id])?;
            reason.map_or(Existing::New, |reason| Existing::DeadLetter(reason, status))
        }
        Some(_) => Existing::Admission(Admission::Queued),
    })
}

/// Gives the dead letter of an event an id of its own, now that another event comes under its key; once.
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
    // The same is kept there already.
    transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id]).map(drop)
}

fn stored_state(connection: &Connection, id: &DeliveryId) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT state FROM deliveries WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()
}

/// Whether what is on record under the id of an event says something else to people than it does.
fn is_conflicting_event(connection: &Connection, delivery: &Delivery) -> rusqlite::Result<bool> {
    let Some(content_key) = delivery.content_key() else { return Ok(false) };
    let stored_key: Option<String> = connection
        .prepare_cached("SELECT event_hash FROM deliveries WHERE id = ?1")?
        .query_row([delivery.id.as_str()], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(stored_key.is_some_and(|known| known != content_key))
}

/// Whether who has the lane of a contact may use it.
fn may_send(connection: &Connection, contact: &ContactKey) -> rusqlite::Result<bool> {
    Ok(paused_since(connection, Direction::ClayToLoops)?.is_none() && has_no_pending(connection, contact)?)
}

/// Whether nothing of a contact waits or is being sent by a worker. Who has its lane asks: what else is `direct` is gone.
fn has_no_pending(connection: &Connection, contact: &ContactKey) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT NOT EXISTS
               (SELECT 1 FROM deliveries
                WHERE direction = ?1 AND contact = ?2 AND settled_at IS NULL AND state <> 'direct')",
        )?
        .query_row([Direction::ClayToLoops.as_str(), contact.as_str()], |row| row.get(0))
}
