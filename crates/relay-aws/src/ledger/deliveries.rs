//! The deliveries in the ledger, as callers record them. What a worker's attempt records is in `attempts`.

use jiff::Timestamp;
use relay::ports::delivery_status::DUPLICATE_STATUS;
use relay::ports::queue::StoreError;
use relay::ports::row_intake::Admission;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, Reason, ReasonCode};
use relay_core::policy::retry;

use crate::ledger::failure_counts::add_failure;
use crate::ledger::items::{
    ATTEMPT_UNTIL, ATTEMPTS, BODY_HASH, CALLER, CONTACT, CONTACT_HASH, DEAD, DEAD_LETTER_OF, DELIVERED, DIED_AT,
    EVENT_HASH, FAILED_AT, FAILING_SINCE, FIRST_ATTEMPT_AT, HELD_SINCE, KIND, LAST_ATTEMPT_AT, LAST_STATUS,
    LEASE_UNTIL, MESSAGE, NOT_BEFORE, QUEUED, REASON, RECEIVED_AT, SENDING, STATE, STATE_NAME, UNKNOWN_SINCE,
};
use crate::ledger::table::{Item, LedgerTable, Update, number_attr, string_attr, time_attr};
use crate::sdk::error::AwsError;

pub(crate) const DELIVERY_KEY_PREFIX: &str = "delivery#";

/// State of a delivery in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerState {
    /// Its caller waits, and sends it or puts it into the queue.
    Sending,
    /// It is in the queue.
    Queued,
    /// It is delivered.
    Delivered,
    /// It is dead-lettered.
    Dead,
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    table: LedgerTable,
    contact_hash_key: Option<ContactHashKey>,
}

impl Ledger {
    /// Creates the ledger of a table.
    pub const fn new(table: LedgerTable) -> Self {
        Self { table, contact_hash_key: None }
    }

    /// Stores each delivery's contact as a hash under this key, by which an operator can look for it.
    pub fn with_contact_hash_key(self, contact_hash_key: Option<ContactHashKey>) -> Self {
        Self { contact_hash_key, ..self }
    }

    pub(crate) const fn table(&self) -> &LedgerTable {
        &self.table
    }

    /// Returns the state of a delivery that is known.
    pub(crate) async fn state(&self, id: &DeliveryId) -> Result<Option<LedgerState>, StoreError> {
        Ok(delivery_state(&self.table, id).await?)
    }

    /// Returns what is known under the key of an event.
    pub(crate) async fn known_event(&self, event: &Delivery, now: Timestamp) -> Result<KnownEvent, StoreError> {
        let item = self.table.get(&delivery_key(&event.id)).await?;
        let stored_key = string_attr(&item, EVENT_HASH).filter(|key| !key.is_empty());
        let unknown_since = time_attr(&item, UNKNOWN_SINCE);
        Ok(KnownEvent {
            state: state_of(&item),
            is_other: event.conflicts_with(stored_key),
            is_of_other_contact: string_attr(&item, CONTACT).is_some_and(|contact| contact != event.contact.as_str()),
            is_in_flight: is_lease_running(&item, now),
            unknown_since,
            is_resend_unsafe: retry::is_resend_unsafe(unknown_since, now),
        })
    }

    /// Reserves a delivery for the caller that waits for it, under a lease of that caller. `sends_now`: whether the caller may
    /// send it, so that it is not known from now on whether its destination has it.
    ///
    /// Returns false if it is delivered or on its way, or if its outcome is not known and it must not be sent again. An
    /// earlier failure is forgotten, because its row was run again.
    pub(crate) async fn reserve(
        &self,
        delivery: &Delivery,
        caller_id: &str,
        sends_now: bool,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (resend_safe_after, resend_safe_until) = retry::safe_resend_range(now);
        let content_key = delivery.content_key().unwrap_or_default();
        // An item of an older relay has no content key where that is the event's own.
        let older_content_key = if delivery.conflicts_with(None) { content_key.as_str() } else { "" };
        let update = self
            .describe(delivery)
            .set(STATE, SENDING)
            .set(KIND, delivery.kind.as_str())
            .set(RECEIVED_AT, delivery.received_at)
            .set(CALLER, caller_id)
            .set(LEASE_UNTIL, lease_until)
            .set(EVENT_HASH, content_key.as_str())
            .set(CONTACT, delivery.contact.as_str())
            .set(ATTEMPTS, 0)
            .remove(&[REASON, LAST_STATUS, MESSAGE, FAILING_SINCE, FAILED_AT, HELD_SINCE, NOT_BEFORE])
            .remove(&[FIRST_ATTEMPT_AT, LAST_ATTEMPT_AT])
            .only_if(format!(
                "attribute_not_exists({STATE_NAME}) OR {STATE_NAME} = :dead OR ({STATE_NAME} = :state AND \
                 ({LEASE_UNTIL} < :now OR {LEASE_UNTIL} > :latest_credible OR {CALLER} = :caller))"
            ))
            .only_if(format!(
                "attribute_not_exists({UNKNOWN_SINCE}) OR ({UNKNOWN_SINCE} > :safe_after \
                 AND {UNKNOWN_SINCE} <= :safe_until AND ({EVENT_HASH} = :{EVENT_HASH} OR {EVENT_HASH} = :older))"
            ))
            .bind("dead", DEAD)
            .bind("older", older_content_key)
            .bind("now", now)
            .bind("latest_credible", retry::latest_credible_wait(now))
            .bind("safe_after", resend_safe_after)
            .bind("safe_until", resend_safe_until);
        let update = if sends_now { update.set_if_missing(UNKNOWN_SINCE, delivery.received_at) } else { update };
        Ok(self.table.update(&delivery_key(&delivery.id), update, now).await?.is_some())
    }

    /// Records that a delivery is in the queue. It must be there before, because repeats are answered by this record.
    /// `was_sent`: whether its caller has tried to send it before.
    pub(crate) async fn mark_queued(
        &self,
        delivery: &Delivery,
        was_sent: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = || {
            self.describe(delivery)
                .set(STATE, QUEUED)
                .set(KIND, delivery.kind.as_str())
                .set(RECEIVED_AT, delivery.received_at)
                .remove(&[LEASE_UNTIL])
                // A worker may have written a later state.
                .only_if(format!("attribute_not_exists({STATE_NAME}) OR {STATE_NAME} = :sending"))
                .bind("sending", SENDING)
        };
        self.update_after_sync_send(delivery, update, was_sent, now).await
    }

    /// Records the failed attempts of a delivery that its caller puts into the queue as the contact's deferred one.
    pub(crate) async fn record_sync_failure(
        &self,
        delivery: &Delivery,
        attempts: u32,
        retry_at: Timestamp,
        reason: Reason,
        outcome_unknown: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = || {
            let update = self
                .describe(delivery)
                .set(STATE, SENDING)
                .set(KIND, delivery.kind.as_str())
                .set(RECEIVED_AT, delivery.received_at)
                .set(ATTEMPTS, i64::from(attempts))
                .set(NOT_BEFORE, retry_at)
                .set(FAILING_SINCE, now)
                .set(FAILED_AT, now)
                .set_if_missing(FIRST_ATTEMPT_AT, now)
                .set(LAST_ATTEMPT_AT, now);
            add_failure(set_reason(update, reason), reason)
        };
        self.update_after_sync_send(delivery, update, outcome_unknown, now).await
    }

    /// Updates an item. If the outcome of its caller's tries is known, what they have left unknown is so no more; what an
    /// earlier attempt has left unknown stays.
    async fn update_after_sync_send(
        &self,
        delivery: &Delivery,
        update: impl Fn() -> Update,
        outcome_unknown: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = delivery_key(&delivery.id);
        if !outcome_unknown {
            // A worker that has begun an attempt meanwhile is the next to know.
            let known = update().remove(&[UNKNOWN_SINCE]).only_if(is_unknown_since_own());
            let known = known.only_if(format!("attribute_not_exists({ATTEMPT_UNTIL})"));
            if self.table.update(&key, known, now).await?.is_some() {
                return Ok(());
            }
        }
        Ok(self.table.update(&key, update(), now).await.map(drop)?)
    }

    /// Records that a delivery was delivered while its caller waited.
    pub(crate) async fn mark_delivered_synchronously(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreError> {
        let update = delivered(false)
            .set_if_missing(FIRST_ATTEMPT_AT, now)
            .set(LAST_ATTEMPT_AT, now)
            .remove(&[UNKNOWN_SINCE])
            .add(ATTEMPTS, 1);
        self.table.update(&delivery_key(id), update, now).await?;
        Ok(())
    }

    /// Ends the reservation of a request that was rejected. Its item is deleted, unless a worker has claimed it because it was
    /// enqueued after all, or its destination may have it: by `outcome_unknown`, or by an earlier attempt.
    pub(crate) async fn end_reservation(
        &self,
        delivery: &Delivery,
        outcome_unknown: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = delivery_key(&delivery.id);
        let is_unclaimed = format!("{STATE_NAME} = :sending AND attribute_not_exists({ATTEMPT_UNTIL})");
        if !outcome_unknown {
            let is_forgettable =
                format!("attribute_not_exists({STATE_NAME}) OR ({is_unclaimed} AND ({}))", is_unknown_since_own());
            if self.table.delete_if(&key, is_forgettable, delivery.received_at).await? {
                return Ok(());
            }
        }
        // The next run of its row need not wait for the end of the lease.
        let update = Update::default().set(LEASE_UNTIL, 0).only_if(is_unclaimed).bind("sending", SENDING);
        Ok(self.table.update(&key, update, now).await.map(drop)?)
    }

    /// Records as dead-lettered an event that was sent for a caller who is gone, and that cannot be sent again.
    pub(crate) async fn mark_lost(
        &self,
        delivery: &Delivery,
        unknown_since: Option<Timestamp>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = set_reason(self.describe(delivery), reason)
            .set(STATE, DEAD)
            .set(DIED_AT, delivery.received_at)
            .set(DEAD_LETTER_OF, delivery.received_at)
            .remove(&[LEASE_UNTIL])
            .only_if(format!("{STATE_NAME} = :sending"))
            .bind("sending", SENDING)
            .only_if_unchanged(UNKNOWN_SINCE, unknown_since.map(Timestamp::as_millisecond));
        Ok(self.table.update(&delivery_key(&delivery.id), update, now).await.map(drop)?)
    }

    /// Begins an update with the hashes of the body and of the contact.
    pub(crate) fn describe(&self, delivery: &Delivery) -> Update {
        let update = Update::default().set(BODY_HASH, BodyHash::compute(&delivery.body).as_str());
        match &self.contact_hash_key {
            Some(key) => update.set(CONTACT_HASH, delivery.contact.log_hash(key).as_str()),
            None => update,
        }
    }
}

/// What is known under the key of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownEvent {
    pub(crate) state: Option<LedgerState>,
    /// Whether the known event has other content.
    pub(crate) is_other: bool,
    pub(crate) is_of_other_contact: bool,
    /// Whether the lease of a caller runs.
    pub(crate) is_in_flight: bool,
    pub(crate) unknown_since: Option<Timestamp>,
    /// Whether Loops may have it and could not tell a repeat any more.
    pub(crate) is_resend_unsafe: bool,
}

impl KnownEvent {
    /// Returns what it is for an event under its key, unless that may be sent.
    pub(crate) fn admission(&self) -> Option<Admission> {
        match self.state? {
            LedgerState::Delivered | LedgerState::Queued if self.is_of_other_contact => {
                Some(Admission::KeyOfOtherContact)
            }
            LedgerState::Delivered => Some(Admission::AlreadyDelivered),
            LedgerState::Queued => Some(Admission::Queued),
            LedgerState::Sending if self.is_in_flight => Some(Admission::InFlight),
            LedgerState::Sending | LedgerState::Dead => {
                (self.is_resend_unsafe || self.may_be_taken_for_another()).then_some(Admission::OutcomeUnknown)
            }
        }
    }

    /// Whether Loops might take the event for a repeat of this one, which is another.
    pub(crate) const fn may_be_taken_for_another(&self) -> bool {
        self.unknown_since.is_some() && self.is_other
    }
}

/// Returns the state of a delivery that is known.
///
/// # Errors
/// When the table cannot be read.
pub async fn delivery_state(table: &LedgerTable, id: &DeliveryId) -> Result<Option<LedgerState>, AwsError> {
    Ok(state_of(&table.get(&delivery_key(id)).await?))
}

/// Returns the state in an item.
pub(crate) fn state_of(item: &Item) -> Option<LedgerState> {
    match string_attr(item, STATE)? {
        SENDING => Some(LedgerState::Sending),
        QUEUED => Some(LedgerState::Queued),
        DELIVERED => Some(LedgerState::Delivered),
        DEAD => Some(LedgerState::Dead),
        _ => None,
    }
}

/// Whether the lease in an item, of a delivery or a contact, has not ended. One that ends later than any is not believed.
pub(crate) fn is_lease_running(item: &Item, now: Timestamp) -> bool {
    time_attr(item, LEASE_UNTIL).is_some_and(|end| end > now && end <= retry::latest_credible_wait(now))
}

/// Returns the condition that no attempt before those of the caller, whose row arrived at `:received_at`, has left the outcome
/// unknown.
fn is_unknown_since_own() -> String {
    format!("attribute_not_exists({UNKNOWN_SINCE}) OR {UNKNOWN_SINCE} = :{RECEIVED_AT}")
}

/// Returns the update of a delivery that is delivered: what only one that waits has is removed. `duplicate`: whether its
/// destination had accepted it before.
pub(crate) fn delivered(duplicate: bool) -> Update {
    let update = Update::default().set(STATE, DELIVERED).remove(&[
        REASON,
        MESSAGE,
        FAILING_SINCE,
        HELD_SINCE,
        NOT_BEFORE,
        LEASE_UNTIL,
        ATTEMPT_UNTIL,
    ]);
    if duplicate { update.set(LAST_STATUS, i64::from(DUPLICATE_STATUS)) } else { update.remove(&[LAST_STATUS]) }
}

/// Sets the reason of a failure. The status is 0 if there was no response.
pub(crate) fn set_reason(update: Update, reason: Reason) -> Update {
    update.set(REASON, reason.code.as_str()).set(LAST_STATUS, reason.status.map_or(0, i64::from))
}

/// Returns the reason of the last failure, if this version knows it.
pub(crate) fn reason_of(item: &Item) -> Option<Reason> {
    let code = string_attr(item, REASON).and_then(ReasonCode::parse)?;
    let status = number_attr(item, LAST_STATUS).and_then(|status| u16::try_from(status).ok());
    Some(Reason { code, status: status.filter(|status| *status > 0) })
}

/// Returns the number of attempts begun.
pub(crate) fn attempt_count(item: &Item) -> u32 {
    u32::try_from(number_attr(item, ATTEMPTS).unwrap_or_default()).unwrap_or(u32::MAX)
}

/// Returns the key of a delivery's item.
pub(crate) fn delivery_key(id: &DeliveryId) -> String {
    format!("{DELIVERY_KEY_PREFIX}{id}")
}
