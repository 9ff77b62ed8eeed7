//! The contacts in the ledger: who may send to a contact at once, and in which order its deliveries go.
//!
//! A contact's item names the delivery that holds its lock (`lock_holder`, for as long as a caller can wait) and those that
//! are in the queue (`waiting`). A caller gets the lock only if it is free and no delivery of the contact waits. Deliveries
//! that arrive meanwhile join the queue. If the holder's call fails and must be retried, its delivery has to go before them.
//! A FIFO queue cannot put a message in front of others, so the item stores it as `deferred_message`, and the worker that
//! receives one of the others delivers the deferred one first.
//!
//! See docs/adr/0002-per-contact-ordering.md.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::SharedClock;
use relay::ports::queue::{Queue as _, StoreError};
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake, SyncSendResult};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_core::policy::retry;
use tracing::warn;

use crate::lambda::contact_order::{ContactOrder, SendOrder};
use crate::ledger::deliveries::{Ledger, LedgerState, is_lease_running};
use crate::ledger::items::{DEFERRED_ID, DEFERRED_MESSAGE, DELIVERED_THROUGH, LEASE_UNTIL, LOCK_HOLDER, WAITING};
use crate::ledger::table::{Item, Update, string_attr};
use crate::ledger::waiting::{self, arrival_key};
use crate::sqs::message;
use crate::sqs::queue::{SendError, SqsQueue};

/// Lease of the lock, longer than any caller waits.
const LOCK_LEASE: SignedDuration = SignedDuration::from_secs(40);

/// The contacts' items: the contact lock for callers, and the order of the queue for workers.
#[derive(Debug, Clone)]
pub struct ContactLedger {
    queue: SqsQueue,
    ledger: Ledger,
    clock: SharedClock,
}

impl ContactLedger {
    /// Creates the contacts of a ledger, and their queue.
    pub const fn new(queue: SqsQueue, ledger: Ledger, clock: SharedClock) -> Self {
        Self { queue, ledger, clock }
    }

    async fn update_contact(&self, delivery: &Delivery, update: Update) -> Result<Option<Item>, StoreError> {
        Ok(self.update_or_current(delivery, update).await?.ok())
    }

    async fn update_or_current(&self, delivery: &Delivery, update: Update) -> Result<Result<Item, Item>, StoreError> {
        let key = contact_key(&delivery.contact);
        Ok(self.ledger.table().update_or_current(&key, update, self.clock.now()).await?)
    }

    /// Records a delivery that can be repeated. If it is known, returns the answer for the repeat.
    async fn reserve(&self, delivery: &Delivery, sends_now: bool) -> Result<Option<Admission>, StoreError> {
        let now = self.clock.now();
        let (caller, lease_until) = (self.clock.new_id(), lease_end(now));
        if !is_idempotent(delivery) || self.ledger.reserve(delivery, &caller, sends_now, lease_until, now).await? {
            return Ok(None);
        }
        let known = self.ledger.known_event(delivery, now).await?;
        match known.admission() {
            Some(Admission::OutcomeUnknown)
                if known.state == Some(LedgerState::Sending) && !known.may_be_taken_for_another() =>
            {
                self.dead_letter_lost(delivery, known.unknown_since).await?;
            }
            Some(Admission::AlreadyDelivered | Admission::Queued | Admission::KeyOfOtherContact)
                if known.is_other || known.is_of_other_contact =>
            {
                self.dead_letter_conflict(delivery).await?;
            }
            _ => {}
        }
        // Without one, it has changed meanwhile.
        Ok(Some(known.admission().unwrap_or(Admission::InFlight)))
    }

    /// Dead-letters an event that was sent for a caller who is gone, and that cannot be sent again.
    async fn dead_letter_lost(&self, delivery: &Delivery, unknown_since: Option<Timestamp>) -> Result<(), StoreError> {
        let reason = Reason::without_status(ReasonCode::OutcomeUnknown);
        // The dead letter first, because a recorded one is not sent again.
        self.queue.dead_letter(delivery, reason).await?;
        self.ledger.mark_lost(delivery, unknown_since, reason, self.clock.now()).await?;
        DeliveryEvent { reason: Some(reason), ..DeliveryEvent::for_delivery(delivery, EventOutcome::DeadLettered) }
            .emit();
        Ok(())
    }

    /// Dead-letters another event under a known key, once. Its caller gets the answer of a repeat.
    async fn dead_letter_conflict(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let (conflicting, reason) = (delivery.as_conflicting_event(), Reason::without_status(ReasonCode::IdConflict));
        if self.ledger.state(&conflicting.id).await?.is_some() {
            return Ok(());
        }
        // The dead letter first, because a recorded one is not sent again.
        self.queue.dead_letter(&conflicting, reason).await?;
        self.ledger.mark_dead(&conflicting, Timestamp::UNIX_EPOCH, reason, conflicting.received_at).await?;
        DeliveryEvent { reason: Some(reason), ..DeliveryEvent::for_delivery(&conflicting, EventOutcome::DeadLettered) }
            .emit();
        Ok(())
    }

    async fn lock(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let update = waiting::only_if_none_waits(Update::default())
            .set(LOCK_HOLDER, delivery.id.as_str())
            .set(LEASE_UNTIL, lease_end(now))
            // If the holder is this delivery, the response was lost, and the SDK has retried the write.
            .only_if(format!(
                "attribute_not_exists({LOCK_HOLDER}) OR {LEASE_UNTIL} < :now OR {LEASE_UNTIL} > :latest_credible \
                 OR {LOCK_HOLDER} = :{LOCK_HOLDER}"
            ))
            .bind("latest_credible", retry::latest_credible_wait(now))
            .bind("now", now);
        Ok(self.update_contact(delivery, update).await?.is_some())
    }

    /// Takes the lock for a delivery that could not be enqueued, if the ledger does not know it. It may be in the queue all
    /// the same, and a worker may have processed it by now.
    async fn lock_if_unknown(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        let has_lock = self.lock(delivery).await?;
        let admission = match self.ledger.state(&delivery.id).await {
            Ok(Some(LedgerState::Delivered)) => Ok(Admission::AlreadyDelivered),
            Ok(Some(LedgerState::Queued)) => Ok(Admission::Queued),
            Ok(Some(LedgerState::Sending | LedgerState::Dead) | None) if has_lock => return Ok(Admission::SendNow),
            Ok(Some(LedgerState::Sending | LedgerState::Dead) | None) => Ok(Admission::InFlight),
            Err(error) => Err(error),
        };
        if has_lock {
            self.unlock(delivery, false).await?;
        }
        admission
    }

    /// Deletes the record of a delivery that was neither sent nor claimed, so that the next run of its row need not wait. It
    /// stays if the destination may have the delivery.
    async fn discard_record(&self, delivery: &Delivery, outcome_unknown: bool) -> Result<(), StoreError> {
        if !is_idempotent(delivery) {
            return Ok(());
        }
        self.ledger.end_reservation(delivery, outcome_unknown, self.clock.now()).await
    }

    async fn unlock(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreError> {
        let update = Update::default().remove(&[LOCK_HOLDER, LEASE_UNTIL]);
        let update = update.only_if(format!("{LOCK_HOLDER} = :id")).bind("id", delivery.id.as_str());
        let update = if delivered { update.set(DELIVERED_THROUGH, delivery.received_at) } else { update };
        self.update_contact(delivery, update).await.map(drop)
    }

    async fn enqueue(&self, delivery: &Delivery) -> Result<(), StoreError> {
        // Before the message is sent, so that no newer delivery takes the fast path.
        if self.update_contact(delivery, waiting::list(delivery)).await?.is_none() {
            self.update_contact(delivery, waiting::note_unlisted(delivery)).await?;
        }
        if let Err(SendError { error, maybe_enqueued }) = self.queue.send(delivery, &self.clock.new_id()).await {
            // A message that may be in the queue still blocks the fast path.
            if !maybe_enqueued {
                self.record_ended(delivery, false).await?;
            }
            return Err(error);
        }
        // Without the record, a repeat is enqueued once more, and sent once.
        if let Err(error) = self.ledger.mark_queued(delivery, false, self.clock.now()).await {
            warn!(delivery.id = %delivery.id, %error, "a stored delivery could not be recorded");
        }
        Ok(())
    }

    /// Enqueues the lock's holder as the deferred delivery, before all others of its contact.
    async fn defer(
        &self,
        delivery: &Delivery,
        attempts: u32,
        retry_at: Timestamp,
        reason: Reason,
        outcome_unknown: bool,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        // The ledger first, so that no worker attempts it early.
        self.ledger.record_sync_failure(delivery, attempts, retry_at, reason, outcome_unknown, now).await?;
        // Deferred even if nothing waits yet: a later delivery may be in the queue before this one.
        let message = message::encode_bytes(delivery).map_err(StoreError::new)?;
        let update = Update::default()
            .set(DEFERRED_ID, delivery.id.as_str())
            .set(DEFERRED_MESSAGE, message)
            .remove(&[LOCK_HOLDER, LEASE_UNTIL])
            .add(WAITING, vec![arrival_key(delivery)])
            .only_if(format!("{LOCK_HOLDER} = :{DEFERRED_ID}"));
        let updated = self.ledger.table().update_or_current(&contact_key(&delivery.contact), update, now).await?;
        // If it waits already, only the response was lost.
        if updated.is_err_and(|item| !waiting::is_listed(&item, delivery)) {
            return Err(StoreError::new("the contact lock was taken over"));
        }
        if let Err(SendError { error, maybe_enqueued }) = self.queue.send(delivery, &self.clock.new_id()).await {
            if !maybe_enqueued {
                self.record_ended(delivery, false).await?;
            }
            self.discard_record(delivery, outcome_unknown).await?;
            return Err(error);
        }
        self.ledger.mark_queued(delivery, true, self.clock.now()).await
    }
}

impl RowIntake for ContactLedger {
    /// The lease in the table takes its place.
    type Guard = ();

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        if let Some(admission) = self.reserve(delivery, mode == DeliveryMode::Sync).await? {
            return Ok(admission);
        }
        let admission = async {
            if mode == DeliveryMode::Sync && self.lock(delivery).await? {
                return Ok(Admission::SendNow);
            }
            self.enqueue(delivery).await.map(|()| Admission::Queued)
        };
        let admission = admission.await;
        if admission.is_err() {
            self.discard_record(delivery, false).await?;
        }
        admission
    }

    /// The lock is all that sandboxes know of each other, so nothing is sent without it.
    async fn admit_without_record(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        if let Some(admission) = self.reserve(delivery, true).await? {
            return Ok(admission);
        }
        let admission = self.lock_if_unknown(delivery).await;
        if !matches!(admission, Ok(Admission::SendNow)) {
            self.discard_record(delivery, false).await?;
        }
        admission
    }

    async fn preview(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        if !is_idempotent(delivery) {
            return Ok(Admission::SendNow);
        }
        let known = self.ledger.known_event(delivery, self.clock.now()).await?;
        Ok(known.admission().unwrap_or(Admission::SendNow))
    }

    fn guard(&self, _: &Delivery) {}

    async fn complete(&self, delivery: &Delivery, result: SyncSendResult) -> Result<(), StoreError> {
        match result {
            SyncSendResult::Delivered => {
                if is_idempotent(delivery) {
                    self.ledger.mark_delivered_synchronously(&delivery.id, self.clock.now()).await?;
                }
                self.unlock(delivery, true).await
            }
            SyncSendResult::Rejected | SyncSendResult::OutcomeUnknown => {
                self.discard_record(delivery, result == SyncSendResult::OutcomeUnknown).await?;
                self.unlock(delivery, false).await
            }
            // `retry_at` always binds: no worker attempts a deferred delivery earlier.
            SyncSendResult::Deferred { attempts, retry_at, reason, no_early_retry: _, outcome_unknown } => {
                self.defer(delivery, attempts, retry_at, reason, outcome_unknown).await
            }
        }
    }
}

impl ContactOrder for ContactLedger {
    async fn send_order(&self, delivery: &Delivery) -> Result<SendOrder, StoreError> {
        let item = self.ledger.table().get(&contact_key(&delivery.contact)).await?;
        if is_locked(&item, self.clock.now()) {
            return Ok(SendOrder::AfterLock);
        }
        match string_attr(&item, DEFERRED_ID) {
            Some(id) if id == delivery.id.as_str() => Ok(SendOrder::NowAsDeferred),
            Some(_) => Ok(deferred_delivery(&item)
                .map_or(SendOrder::Now, |deferred| SendOrder::AfterDeferred(Box::new(deferred)))),
            None => Ok(SendOrder::Now),
        }
    }

    /// Entries that are much older have ended as well, or never got into the queue, because a group is processed in order:
    /// they are removed. A delivered one is recorded as the contact's latest.
    async fn record_ended(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreError> {
        let ended = || Update::default().delete_from_set(WAITING, vec![arrival_key(delivery)]);
        let is_deferred = |item: &Item| string_attr(item, DEFERRED_ID) == Some(delivery.id.as_str());
        let record = |update: Update| {
            let update = update.bind("id", delivery.id.as_str());
            if delivered { update.set(DELIVERED_THROUGH, delivery.received_at) } else { update }
        };
        // Nearly always it is not the deferred one, and the latest that was delivered: then this is the only write.
        let update = record(ended()).only_if(format!("attribute_not_exists({DEFERRED_ID}) OR {DEFERRED_ID} <> :id"));
        let is_latest =
            format!("attribute_not_exists({DELIVERED_THROUGH}) OR {DELIVERED_THROUGH} < :{DELIVERED_THROUGH}");
        let update = if delivered { update.only_if(is_latest) } else { update };
        let mut updated = self.update_or_current(delivery, update).await?;
        if updated.as_ref().is_err_and(is_deferred) {
            let update = record(ended()).remove(&[DEFERRED_ID, DEFERRED_MESSAGE]);
            updated = self.update_or_current(delivery, update.only_if(format!("{DEFERRED_ID} = :id"))).await?;
        }
        let item = match updated {
            Ok(item) => Some(item),
            Err(_) => self.update_contact(delivery, ended()).await?,
        };
        for update in item.map(|item| waiting::remove_stale(&item, delivery)).unwrap_or_default() {
            self.update_contact(delivery, update).await?;
        }
        Ok(())
    }
}

/// Whether a delivery can be repeated. Each update of a contact is a new delivery.
fn is_idempotent(delivery: &Delivery) -> bool {
    delivery.kind.idempotency_key().is_some()
}

/// Whether a caller holds the contact's lock.
pub(crate) fn is_locked(item: &Item, now: Timestamp) -> bool {
    string_attr(item, LOCK_HOLDER).is_some() && is_lease_running(item, now)
}

/// Returns the end of a lease that begins now.
fn lease_end(now: Timestamp) -> Timestamp {
    now.checked_add(LOCK_LEASE).unwrap_or(now)
}

/// Returns the contact's deferred delivery.
fn deferred_delivery(item: &Item) -> Option<Delivery> {
    match item.get(DEFERRED_MESSAGE)? {
        AttributeValue::B(bytes) => message::decode_bytes(bytes.as_ref()).ok(),
        message => message::decode(message.as_s().ok()?).ok(),
    }
}

/// Returns the key of a contact's item.
pub(crate) fn contact_key(contact: &ContactKey) -> String {
    format!("contact#{}", contact.as_str())
}

#[cfg(test)]
mod tests {
    use relay_core::delivery::DeliveryKind;

    use super::*;

    #[test]
    fn deferred_message_of_an_earlier_version_is_read() {
        let delivery = Delivery {
            id: relay_core::delivery::DeliveryId::random("1"),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::UNIX_EPOCH,
            kind: DeliveryKind::LoopsContact,
            body: "{\"email\":\"ada@example.com\"}".into(),
        };
        let text = AttributeValue::S(message::encode(&delivery).unwrap());
        assert_eq!(deferred_delivery(&Item::from([(DEFERRED_MESSAGE.to_owned(), text)])), Some(delivery));
        assert_eq!(deferred_delivery(&Item::new()), None);
    }
}
