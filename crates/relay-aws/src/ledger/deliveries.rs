//! The deliveries in the ledger, as callers record them. What a worker's attempt records is in `attempts`.

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, Reason};

use crate::ledger::failure_counts::add_failure;
use crate::ledger::items::{
    ATTEMPT_UNTIL, ATTEMPTS, BODY_HASH, CALLER, CONTACT_HASH, DEAD, DELIVERED, EVENT_HASH, FAILING_SINCE,
    FIRST_ATTEMPT_AT, HELD_SINCE, KIND, LAST_ATTEMPT_AT, LAST_STATUS, LEASE_UNTIL, NOT_BEFORE, QUEUED, REASON,
    RECEIVED_AT, SENDING, STATE, STATE_NAME,
};
use crate::ledger::table::{Item, LedgerTable, Update, string_attr};
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

    /// Returns the state of an event, and whether the event known under its key has other content.
    pub(crate) async fn event_state(&self, event: &Delivery) -> Result<(Option<LedgerState>, bool), StoreError> {
        let item = self.table.get(&delivery_key(&event.id)).await?;
        let known_hash = string_attr(&item, EVENT_HASH).filter(|hash| !hash.is_empty());
        let is_conflicting = known_hash.zip(event.content_key()).is_some_and(|(known, hash)| known != hash);
        Ok((state_of(&item), is_conflicting))
    }

    /// Reserves a delivery for the caller that waits for it, under a lease of that caller.
    ///
    /// Returns false if it is delivered or on its way. An earlier failure is forgotten, because its row was run again.
    pub(crate) async fn reserve(
        &self,
        delivery: &Delivery,
        caller_id: &str,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = self
            .describe(delivery)
            .set(STATE, SENDING)
            .set(KIND, delivery.kind.as_str())
            .set(RECEIVED_AT, delivery.received_at)
            .set(CALLER, caller_id)
            .set(LEASE_UNTIL, lease_until)
            .set(EVENT_HASH, delivery.content_key().unwrap_or_default().as_str())
            .set(ATTEMPTS, 0)
            .remove(&[REASON, LAST_STATUS, FAILING_SINCE, HELD_SINCE, NOT_BEFORE, FIRST_ATTEMPT_AT, LAST_ATTEMPT_AT])
            .only_if(format!(
                "attribute_not_exists({STATE_NAME}) OR {STATE_NAME} = :dead \
                 OR ({STATE_NAME} = :state AND ({LEASE_UNTIL} < :now OR {CALLER} = :caller))"
            ))
            .bind("dead", DEAD)
            .bind("now", now);
        Ok(self.table.update(&delivery_key(&delivery.id), update, now).await?.is_some())
    }

    /// Records that a delivery is in the queue. It must be there before, because repeats are answered by this record.
    pub(crate) async fn mark_queued(&self, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError> {
        let update = self
            .describe(delivery)
            .set(STATE, QUEUED)
            .set(KIND, delivery.kind.as_str())
            .set(RECEIVED_AT, delivery.received_at)
            .remove(&[LEASE_UNTIL])
            // A worker may have written a later state.
            .only_if(format!("attribute_not_exists({STATE_NAME}) OR {STATE_NAME} = :sending"))
            .bind("sending", SENDING);
        self.table.update(&delivery_key(&delivery.id), update, now).await?;
        Ok(())
    }

    /// Records the failed attempts of a delivery that its caller puts into the queue as the contact's deferred one.
    pub(crate) async fn record_sync_failure(
        &self,
        delivery: &Delivery,
        attempts: u32,
        retry_at: Timestamp,
        reason: Reason,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = self
            .describe(delivery)
            .set(STATE, SENDING)
            .set(KIND, delivery.kind.as_str())
            .set(RECEIVED_AT, delivery.received_at)
            .set(ATTEMPTS, i64::from(attempts))
            .set(NOT_BEFORE, retry_at)
            .set(FAILING_SINCE, now)
            .set_if_missing(FIRST_ATTEMPT_AT, now)
            .set(LAST_ATTEMPT_AT, now);
        let update = add_failure(set_reason(update, reason), reason);
        self.table.update(&delivery_key(&delivery.id), update, now).await?;
        Ok(())
    }

    /// Records that a delivery was delivered while its caller waited.
    pub(crate) async fn mark_delivered_synchronously(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreError> {
        let update = Update::default()
            .set(STATE, DELIVERED)
            .set_if_missing(FIRST_ATTEMPT_AT, now)
            .set(LAST_ATTEMPT_AT, now)
            .remove(&[REASON, LAST_STATUS, FAILING_SINCE, HELD_SINCE, NOT_BEFORE, LEASE_UNTIL, ATTEMPT_UNTIL])
            .add(ATTEMPTS, 1);
        self.table.update(&delivery_key(id), update, now).await?;
        Ok(())
    }

    /// Deletes the item of a rejected request, unless a worker has claimed it because it was enqueued after all.
    pub(crate) async fn delete_if_unclaimed(&self, id: &DeliveryId) -> Result<(), StoreError> {
        let is_unclaimed = format!(
            "attribute_not_exists({STATE_NAME}) OR ({STATE_NAME} = :sending AND attribute_not_exists({ATTEMPT_UNTIL}))"
        );
        Ok(self.table.delete_if(&delivery_key(id), is_unclaimed).await?)
    }

    /// Begins an update with the body's hash, and with the contact's, which stays when another body comes under the id.
    pub(crate) fn describe(&self, delivery: &Delivery) -> Update {
        let update = Update::default().set(BODY_HASH, BodyHash::compute(&delivery.body).as_str());
        match &self.contact_hash_key {
            Some(key) => update.set_if_missing(CONTACT_HASH, delivery.contact.log_hash(key).as_str()),
            None => update,
        }
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

/// Sets the reason of a failure. The status is 0 if there was no response.
pub(crate) fn set_reason(update: Update, reason: Reason) -> Update {
    update.set(REASON, reason.code.as_str()).set(LAST_STATUS, reason.status.map_or(0, i64::from))
}

/// Returns the key of a delivery's item.
pub(crate) fn delivery_key(id: &DeliveryId) -> String {
    format!("{DELIVERY_KEY_PREFIX}{id}")
}
