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
use relay_core::delivery::{Delivery, Direction, Reason, ReasonCode};
use rusqlite::{Connection, Transaction, params};

use crate::admin::queries::paused_since;
use crate::delivery_row::NewRow;
use crate::intake::contact_locks::ContactLockGuard;
use crate::intake::stored_event::{Known, StoredEvent, carry_over, delete, rename_conflicting};
use crate::store::SqliteStore;
use crate::{delivery_row, failure_counts};

/// Maximum wait for other writes: admission, completion and the call between them fit into the caller's timeout.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

const ID_CONFLICT: Reason = Reason::without_status(ReasonCode::IdConflict);
const OUTCOME_UNKNOWN: Reason = Reason::without_status(ReasonCode::OutcomeUnknown);

impl RowIntake for SqliteStore {
    type Guard = ContactLockGuard;

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        // The lock comes first: a row that cannot be recorded holds it as well.
        let guard = if mode == DeliveryMode::Sync { self.locks.try_lock(delivery) } else { None };
        let (has_lock, locks) = (guard.is_some(), Arc::clone(&self.locks));
        let (row, now) = (self.new_row(delivery), self.clock.now());
        let (admission, dead_letter) = self
            .write_within(WRITE_TIMEOUT, move |transaction| {
                let delivery = &row.delivery;
                if !has_lock && locks.is_locked_by(delivery) {
                    return Ok((Admission::InFlight, None));
                }
                delivery_row::end_direct(transaction, None, &locks.locked_deliveries(), now)?;
                let in_flight = locks.is_sent_for_another(delivery, has_lock);
                let stored = StoredEvent::load(transaction, &delivery.id)?;
                match stored.as_ref().map(|stored| stored.compare(delivery, in_flight, now)) {
                    Some(Known::Repeat(admission)) => return Ok((admission, None)),
                    Some(Known::Conflict(admission)) => {
                        let conflict = row.as_conflicting_event();
                        let inserted = conflict.insert_dead(transaction, ID_CONFLICT, now)?;
                        return Ok((admission, inserted.then_some((conflict.delivery, ID_CONFLICT))));
                    }
                    Some(Known::Lost) => {
                        delete(transaction, &delivery.id)?;
                        row.insert_dead(transaction, OUTCOME_UNKNOWN, now)?;
                        carry_over(transaction, &delivery.id, stored.as_ref(), false)?;
                        return Ok((Admission::OutcomeUnknown, Some((row.delivery, OUTCOME_UNKNOWN))));
                    }
                    Some(Known::OtherDeadLetter) => rename_conflicting(transaction, delivery.id.as_str())?,
                    Some(Known::Rerun) => delete(transaction, &delivery.id)?,
                    None => {}
                }
                let sends_now = has_lock && may_send(transaction, &delivery.contact)?;
                let (state, admission) =
                    if sends_now { ("direct", Admission::SendNow) } else { ("waiting", Admission::Queued) };
                row.insert(transaction, state, now)?;
                let earlier = stored.filter(|stored| stored.content_is_of(delivery));
                carry_over(transaction, &delivery.id, earlier.as_ref(), sends_now)?;
                Ok((admission, None))
            })
            .await?;
        if let Some((dead_letter, reason)) = dead_letter {
            DeliveryEvent {
                reason: Some(reason),
                ..DeliveryEvent::for_delivery(&dead_letter, EventOutcome::DeadLettered)
            }
            .emit();
        }
        match admission {
            Admission::SendNow => guard.into_iter().for_each(ContactLockGuard::release_ownership),
            Admission::Queued => {
                drop(guard);
                self.signal_work(Direction::ClayToLoops);
            }
            Admission::AlreadyDelivered
            | Admission::InFlight
            | Admission::KeyOfOtherContact
            | Admission::OutcomeUnknown => {}
        }
        Ok(admission)
    }

    async fn admit_without_record(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        // What is gone cannot tell what of the contact waits, and the row would not be remembered.
        self.writer.files().check()?;
        let Some(guard) = self.locks.try_lock(delivery) else { return Ok(Admission::InFlight) };
        let (delivery, in_flight, now) =
            (delivery.clone(), self.locks.is_sent_for_another(delivery, true), self.clock.now());
        // Whatever is stored from here on finds the contact locked.
        let admission = self
            .read(move |connection| {
                let stored = StoredEvent::load(connection, &delivery.id)?;
                Ok(match stored.map(|stored| stored.compare(&delivery, in_flight, now)) {
                    Some(Known::Repeat(admission)) => admission,
                    Some(Known::Lost) => Admission::OutcomeUnknown,
                    Some(Known::Rerun) | None if may_send(connection, &delivery.contact)? => Admission::SendNow,
                    // Others go first, or one of two events would have to be dead-lettered.
                    Some(Known::Conflict(_) | Known::OtherDeadLetter | Known::Rerun) | None => Admission::InFlight,
                })
            })
            .await?;
        if admission == Admission::SendNow {
            guard.release_ownership();
        }
        Ok(admission)
    }

    async fn preview(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        if delivery.kind.idempotency_key().is_none() {
            return Ok(Admission::SendNow);
        }
        let id = delivery.id.clone();
        let stored = self.read(move |connection| StoredEvent::load(connection, &id)).await?;
        let in_flight = self.locks.is_sent_for_another(delivery, false);
        Ok(match stored.map(|stored| stored.compare(delivery, in_flight, self.clock.now())) {
            Some(Known::Repeat(admission) | Known::Conflict(admission)) => admission,
            Some(Known::Lost) => Admission::OutcomeUnknown,
            Some(Known::OtherDeadLetter | Known::Rerun) | None => Admission::SendNow,
        })
    }

    fn guard(&self, delivery: &Delivery) -> ContactLockGuard {
        self.locks.guard(delivery)
    }

    async fn complete(&self, delivery: &Delivery, result: SyncSendResult) -> Result<(), StoreError> {
        let guard = self.locks.guard(delivery);
        if !self.locks.is_locked_by(delivery) {
            return Err(StoreError::new("the contact lock was taken over"));
        }
        let (row, now) = (self.new_row(delivery), self.clock.now());
        let completed = self
            .write_within(WRITE_TIMEOUT, move |transaction| {
                if complete(transaction, &row, result, now)? {
                    return Ok(true);
                }
                // It could not be recorded at its admission, and joins the queue only if nothing has joined it since.
                match result {
                    SyncSendResult::Rejected => return Ok(true),
                    SyncSendResult::Deferred { .. } if !has_no_pending(transaction, &row.delivery.contact)? => {
                        return Ok(false);
                    }
                    SyncSendResult::Deferred { .. } | SyncSendResult::Delivered | SyncSendResult::OutcomeUnknown => {}
                }
                row.insert(transaction, "direct", now)?;
                complete(transaction, &row, result, now)
            })
            .await;
        drop(guard);
        self.signal_work(Direction::ClayToLoops);
        if completed? { Ok(()) } else { Err(StoreError::new("others have joined the queue before it")) }
    }
}

/// Records the result of a `direct` delivery. Returns false if the row under its id is not the one that its caller has sent.
fn complete(
    transaction: &Transaction<'_>,
    row: &NewRow,
    result: SyncSendResult,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let (delivery, now_ms) = (&row.delivery, now.as_millisecond());
    let id = delivery.id.as_str();
    let is_own: bool = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM deliveries
                            WHERE id = ?1 AND state = 'direct' AND contact = ?2 AND body_hash = ?3)",
        )?
        .query_row([id, delivery.contact.as_str(), row.body_hash.as_str()], |row| row.get(0))?;
    if !is_own {
        return Ok(false);
    }
    let outcome_unknown = match result {
        SyncSendResult::OutcomeUnknown => true,
        SyncSendResult::Deferred { outcome_unknown, .. } => outcome_unknown,
        SyncSendResult::Delivered | SyncSendResult::Rejected => false,
    };
    if !outcome_unknown {
        // Only what this caller's tries have left unknown: an earlier one stays so.
        transaction
            .prepare_cached("UPDATE deliveries SET unknown_since = nullif(unknown_since, received_at) WHERE id = ?1")?
            .execute([id])?;
    }
    match result {
        SyncSendResult::Delivered => {
            transaction
                .prepare_cached(
                    "UPDATE deliveries
                     SET state = 'delivered', body = NULL, attempts = 1, settled_at = ?2, first_attempt_at = ?2,
                         last_attempt_at = ?2, reason = NULL, status = NULL, unknown_since = NULL
                     WHERE id = ?1",
                )?
                .execute(params![id, now_ms])?;
        }
        SyncSendResult::Rejected | SyncSendResult::OutcomeUnknown => {
            delivery_row::end_direct(transaction, Some(&delivery.id), "[]", now)?;
        }
        SyncSendResult::Deferred { attempts, retry_at, reason, no_early_retry, .. } => {
            let (at, Reason { code, status }) = (retry_at.as_millisecond(), reason);
            transaction
                .prepare_cached(
                    "UPDATE deliveries
                     SET state = 'waiting', attempts = ?3, next_at = ?4, failing_since = ?2, reason = ?5,
                         status = ?6, first_attempt_at = ?2, last_attempt_at = ?2, not_before = iif(?7, ?4, NULL)
                     WHERE id = ?1",
                )?
                .execute(params![id, now_ms, attempts, at, code.as_str(), status, no_early_retry])?;
            // The attempts while the caller waited count as one failure, by the last reason.
            failure_counts::increment(transaction, id, reason, now_ms)?;
        }
    }
    Ok(true)
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
                WHERE direction = ?1 AND contact = ?2 AND state BETWEEN 'sending' AND 'waiting')",
        )?
        .query_row([Direction::ClayToLoops.as_str(), contact.as_str()], |row| row.get(0))
}
