//! The deliveries in the ledger.

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, Reason};

use crate::ledger::failure_counts::add_failure;
use crate::ledger::items::{CONTACT_HASH, EVENT_HASH, STATE};
use crate::ledger::table::{Item, LedgerTable, Update, string_attr};
use crate::sdk::error::AwsError;

pub(crate) const DELIVERY_KEY_PREFIX: &str = "delivery#";

/// State of a delivery in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerState {
    /// It is being sent while its caller waits.
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
    #[must_use]
    pub const fn new(table: LedgerTable) -> Self {
        Self { table, contact_hash_key: None }
    }

    /// Stores each delivery's contact as a hash under this key, by which an operator can look for it.
    #[must_use]
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

    /// Records that a delivery is sent while its caller waits, under a lease of that caller.
    ///
    /// Returns false if it is delivered or on its way. An earlier failure is forgotten, because its row was run again.
    pub(crate) async fn begin_direct(
        &self,
        delivery: &Delivery,
        caller_id: &str,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = Update::new(
            "SET #state = :sending, lease_until = :until, body_hash = :hash, received_at = :received, kind = :kind, \
             attempts = :none, caller = :caller, event_hash = :said REMOVE reason, last_status, failing_since, held_since, \
             not_before, first_attempt_at, last_attempt_at",
        )
        .condition(
            "attribute_not_exists(#state) OR #state = :dead \
             OR (#state = :sending AND (lease_until < :now OR caller = :caller))",
        )
        .string_attr(":caller", caller_id)
        .string_attr(":dead", "dead")
        .string_attr(":sending", "sending")
        .string_attr(":said", &delivery.content_key().unwrap_or_default())
        .number_attr(":none", 0)
        .number_attr(":until", lease_until.as_millisecond())
        .number_attr(":now", now.as_millisecond());
        Ok(self.table.update(&delivery_key(&delivery.id), self.bind_delivery(update, delivery), now).await?.is_some())
    }

    /// Records that a delivery is in the queue. It must be there before, because repeats are answered by this record.
    pub(crate) async fn mark_queued(&self, delivery: &Delivery, now: Timestamp) -> Result<(), StoreError> {
        // A worker may have written a later state.
        let update = Update::new(
            "SET #state = :queued, body_hash = :hash, received_at = :received, kind = :kind REMOVE lease_until",
        )
        .condition("attribute_not_exists(#state) OR #state = :sending")
        .string_attr(":queued", "queued")
        .string_attr(":sending", "sending");
        self.table.update(&delivery_key(&delivery.id), self.bind_delivery(update, delivery), now).await?;
        Ok(())
    }

    /// Records the failed attempt of a delivery that joins the queue while its caller waits.
    pub(crate) async fn mark_deferred(
        &self,
        delivery: &Delivery,
        deferral: Deferred,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let change = Update::new(
            "SET #state = :sending, body_hash = :hash, received_at = :received, kind = :kind, \
             attempts = :attempts, not_before = :at, failing_since = :now, reason = :reason, last_status = :status, \
             first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now ADD #failed :failure",
        )
        .string_attr(":sending", "sending")
        .number_attr(":attempts", i64::from(deferral.attempts))
        .number_attr(":at", deferral.retry_at.as_millisecond())
        .number_attr(":now", now.as_millisecond());
        let update = add_failure(bind_reason(self.bind_delivery(change, delivery), deferral.reason), deferral.reason);
        self.table.update(&delivery_key(&delivery.id), update, now).await?;
        Ok(())
    }

    /// Records that a delivery was delivered while its caller waited.
    pub(crate) async fn mark_delivered_directly(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreError> {
        let update = Update::new(
            "SET #state = :delivered, first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now \
             REMOVE reason, last_status, failing_since, held_since, not_before, lease_until, attempt_until \
             ADD attempts :one",
        )
        .string_attr(":delivered", "delivered")
        .number_attr(":now", now.as_millisecond())
        .number_attr(":one", 1);
        self.table.update(&delivery_key(id), update, now).await?;
        Ok(())
    }

    /// Deletes the item of a rejected request, unless a worker has claimed it because it was enqueued after all.
    pub(crate) async fn delete_if_unclaimed(&self, id: &DeliveryId) -> Result<(), StoreError> {
        let condition = "attribute_not_exists(#state) OR (#state = :sending AND attribute_not_exists(attempt_until))";
        Ok(self.table.delete_if(&delivery_key(id), condition, (":sending", "sending")).await?)
    }

    /// Binds `:hash`, `:received` and `:kind` of a delivery, and sets the contact's hash, which stays when another body comes
    /// under its id.
    pub(crate) fn bind_delivery(&self, update: Update, delivery: &Delivery) -> Update {
        let update = update
            .string_attr(":hash", BodyHash::compute(&delivery.body).as_str())
            .number_attr(":received", delivery.received_at.as_millisecond())
            .string_attr(":kind", delivery.kind.as_str());
        match &self.contact_hash_key {
            Some(key) => update
                .and_set(format!("{CONTACT_HASH} = if_not_exists({CONTACT_HASH}, :contact_hash)"))
                .string_attr(":contact_hash", &delivery.contact.log_hash(key)),
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
        "sending" => Some(LedgerState::Sending),
        "queued" => Some(LedgerState::Queued),
        "delivered" => Some(LedgerState::Delivered),
        "dead" => Some(LedgerState::Dead),
        _ => None,
    }
}

/// Binds `:reason` and `:status`, which is 0 if there was no response.
pub(crate) fn bind_reason(update: Update, reason: Reason) -> Update {
    update.string_attr(":reason", reason.code.as_str()).number_attr(":status", reason.status.map_or(0, i64::from))
}

/// Failed attempts of a delivery that joins the queue after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deferred {
    /// Number of attempts.
    pub attempts: u32,
    /// Earliest time of a worker's attempt.
    pub retry_at: Timestamp,
    /// Reason of the latest failure.
    pub reason: Reason,
}

/// Returns the key of a delivery's item.
pub(crate) fn delivery_key(id: &DeliveryId) -> String {
    format!("{DELIVERY_KEY_PREFIX}{id}")
}
