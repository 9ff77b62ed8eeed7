//! The lane past the queue. Who is admitted gets a place in the order of arrival before anything is sent, so that a
//! row that has to wait after all waits in front of everything that came later.

use std::time::Duration;

use jiff::SignedDuration;
use relay::store::{Admission, DirectEnd, DirectLane, StoreFault, Wish};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, Direction};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{SqliteStore, failures, record};

/// How long a caller may hold a lane: longer than any caller is let wait. One who holds it longer is gone.
const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// How long a row waits for its turn at the store, at its beginning and at its end: both, and the call between, fit into
/// the caller's time.
const TURN_WITHIN: Duration = Duration::from_secs(2);

impl DirectLane for SqliteStore {
    async fn admit(&self, delivery: &Delivery, wish: Wish) -> Result<Admission, StoreFault> {
        let (delivery, hash, now) = (delivery.clone(), self.contact_hash(delivery), self.now());
        let admission = self
            .transact_soon(TURN_WITHIN, move |transaction| {
                forget_the_gone(transaction, now)?;
                if let Some(known) = known(transaction, &delivery.id)? {
                    return Ok(known);
                }
                let lease = now.checked_add(LEASE).unwrap_or(now);
                let (state, next_at, admission) = match wish {
                    Wish::Direct if is_clear(transaction, &delivery.contact)? => ("direct", lease, Admission::Direct),
                    Wish::Direct | Wish::Later => ("waiting", now, Admission::Queued),
                };
                record::insert(transaction, &delivery, hash.as_deref(), state, next_at)?;
                Ok(admission)
            })
            .await?;
        if admission == Admission::Queued {
            self.arrivals.notify_waiters();
        }
        Ok(admission)
    }

    async fn settle_direct(&self, delivery: &Delivery, end: DirectEnd) -> Result<(), StoreFault> {
        let (id, now) = (delivery.id.as_str().to_owned(), self.now().as_millisecond());
        let changed = self
            .transact_soon(TURN_WITHIN, move |transaction| match end {
                DirectEnd::Delivered => transaction
                    .prepare_cached(
                        "UPDATE deliveries SET state = 'delivered', body = NULL, attempts = 1, settled_at = ?2, first_attempt_at = ?2,
                             last_attempt_at = ?2
                         WHERE id = ?1 AND state = 'direct'",
                    )?
                    .execute(params![id, now]),
                DirectEnd::Refused => transaction
                    .prepare_cached("DELETE FROM deliveries WHERE id = ?1 AND state = 'direct'")?
                    .execute([id]),
                DirectEnd::Postponed { attempts, at, reason } => {
                    let changed = transaction
                        .prepare_cached(
                            "UPDATE deliveries
                             SET state = 'waiting', attempts = ?3, next_at = ?4, failing_since = ?2, reason = ?5,
                                 status = ?6, first_attempt_at = ?2, last_attempt_at = ?2
                             WHERE id = ?1 AND state = 'direct'",
                        )?
                        .execute(params![
                            id,
                            now,
                            attempts,
                            at.as_millisecond(),
                            reason.code.as_str(),
                            reason.status
                        ])?;
                    // What the caller has waited for counts once, by its last reason.
                    if changed == 1 {
                        failures::count(transaction, &id, reason, now)?;
                    }
                    Ok(changed)
                }
            })
            .await?;
        self.arrivals.notify_waiters();
        if changed == 1 { Ok(()) } else { Err(StoreFault("the lane was given to somebody else".to_owned())) }
    }

    async fn is_clear(&self, contact: &ContactKey) -> Result<bool, StoreFault> {
        let contact = contact.clone();
        self.look(move |connection| is_clear(connection, &contact)).await
    }
}

fn known(transaction: &Transaction<'_>, id: &DeliveryId) -> rusqlite::Result<Option<Admission>> {
    let state: Option<String> = transaction
        .prepare_cached("SELECT state FROM deliveries WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(match state.as_deref() {
        Some("delivered") => Some(Admission::DeliveredBefore),
        Some("direct") => Some(Admission::Busy),
        Some("dead") => {
            // Somebody runs the row again: it gets another chance, in the place of its dead letter.
            transaction.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id.as_str()])?;
            None
        }
        Some(_) => Some(Admission::Queued),
        None => None,
    })
}

fn is_clear(connection: &Connection, contact: &ContactKey) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT NOT EXISTS
               (SELECT 1 FROM deliveries WHERE direction = ?1 AND contact = ?2 AND settled_at IS NULL)",
        )?
        .query_row([Direction::ClayToLoops.as_str(), contact.as_str()], |row| row.get(0))
}

fn forget_the_gone(transaction: &Transaction<'_>, now: jiff::Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM deliveries
             WHERE settled_at IS NULL AND direction = ?1 AND state = 'direct' AND next_at <= ?2",
        )?
        .execute(params![Direction::ClayToLoops.as_str(), now.as_millisecond()])?;
    Ok(())
}
