//! The lane past the queue, for many sandboxes at once.
//!
//! A contact's item says who has its lane (`holder`, for as long as a caller can wait) and which of its deliveries wait
//! in the queue (`waiting`). Who wants the lane gets it only where nobody has it and nothing waits. What comes meanwhile
//! joins the queue; if the holder then has to wait after all, its delivery is kept in the item as the one that goes
//! `first_message`, because a FIFO queue has no place in front of what it holds already. The worker that meets one of the others
//! delivers that one before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::Clock;
use relay::ports::fast_path::{Admission, DeliveryMode, FastPath, FastPathResult};
use relay::ports::queue::{Queue as _, StoreError};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryKind, Reason, ReasonCode};
use tracing::warn;

use crate::ledger::deliveries::{Deferred, Ledger, LedgerState};
use crate::ledger::table::{Item, Update, string_attr, time_attr};
use crate::sqs::dead_letter::FailureInfo;
use crate::sqs::message;
use crate::sqs::queue::{SendError, SqsQueue};

/// How long a caller may hold a lane: longer than any caller is let wait. One who holds it longer is gone.
const LOCK_LEASE: SignedDuration = SignedDuration::from_secs(40);

/// How far the order of arrival and the order in the queue may be apart: clocks differ, and sandboxes are frozen.
const REORDER_WINDOW: Duration = Duration::from_secs(600);

/// The lane, the queue behind it, and the ledger.
#[derive(Debug, Clone)]
pub struct ContactFastPath<A> {
    queue: SqsQueue,
    ledger: Ledger,
    clock: A,
}

/// What stands before a message of a contact.
#[derive(Debug)]
pub enum Blocker {
    /// Nothing.
    None,
    /// Nothing: it is the one that goes first.
    Own,
    /// A caller is sending for this contact right now.
    Locked,
    /// This delivery goes first.
    Deferred(Box<Delivery>),
}

impl<A: Clock> ContactFastPath<A> {
    /// A lane.
    pub const fn new(queue: SqsQueue, ledger: Ledger, clock: A) -> Self {
        Self { queue, ledger, clock }
    }

    /// What a worker has to mind before it sends a delivery of this contact.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn blocker(&self, delivery: &Delivery) -> Result<Blocker, StoreError> {
        let item = self.ledger.table().get(&contact_key(&delivery.contact)).await?;
        if is_locked(&item, self.clock.now()) {
            return Ok(Blocker::Locked);
        }
        match string_attr(&item, "deferred_id") {
            Some(id) if id == delivery.id.as_str() => Ok(Blocker::Own),
            Some(_) => {
                let deferred = string_attr(&item, "deferred_message").and_then(|first| message::decode(first).ok());
                Ok(deferred.map_or(Blocker::None, |deferred| Blocker::Deferred(Box::new(deferred))))
            }
            None => Ok(Blocker::None),
        }
    }

    /// Keeps what died as a dead letter that has, perhaps, no message of its own.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn dead_letter(&self, delivery: &Delivery, failure: FailureInfo) -> Result<(), StoreError> {
        self.queue.dead_letter_delivery(delivery, failure).await
    }

    /// Notes that a delivery of the queue has ended. What is still noted from long before it has ended as well, or never
    /// got into the queue: a group is worked on in order. What was delivered is remembered as the contact's latest.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn finish(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreError> {
        let (key, id, entry) = (contact_key(&delivery.contact), delivery.id.as_str(), arrival_key(delivery));
        let now = self.clock.now();
        let update = Update::new(if delivered {
            "SET delivered_through = :through REMOVE deferred_id, deferred_message DELETE waiting :ids"
        } else {
            "REMOVE deferred_id, deferred_message DELETE waiting :ids"
        });
        let update =
            update.condition("deferred_id = :id").string_attr(":id", id).bind_string_set(":ids", [entry.clone()]);
        let update = if delivered { set_delivered_through(update, delivery) } else { update };
        let mut item = self.ledger.table().update(&key, update, now).await?;
        if item.is_none() && delivered {
            let update = Update::new("SET delivered_through = :through DELETE waiting :ids")
                .condition("attribute_not_exists(delivered_through) OR delivered_through < :through")
                .bind_string_set(":ids", [entry.clone()]);
            item = self.ledger.table().update(&key, set_delivered_through(update, delivery), now).await?;
        }
        if item.is_none() {
            item = self
                .ledger
                .table()
                .update(&key, Update::new("DELETE waiting :ids").bind_string_set(":ids", [entry]), now)
                .await?;
        }
        let stale = item.map(|item| stale_entries(&item, delivery)).unwrap_or_default();
        if stale.is_empty() {
            return Ok(());
        }
        self.ledger
            .table()
            .update(&key, Update::new("DELETE waiting :ids").bind_string_set(":ids", stale), now)
            .await
            .map(drop)
    }

    /// Puts a delivery that can come again on record; or says what is known of it, where it is known.
    async fn begin_direct(&self, delivery: &Delivery) -> Result<Option<Admission>, StoreError> {
        let now = self.clock.now();
        if !is_idempotent(delivery)
            || self.ledger.begin_direct(delivery, &self.clock.new_id(), lease_end(now), now).await?
        {
            return Ok(None);
        }
        let (state, is_conflicting) = self.ledger.event_state(delivery).await?;
        let admission = match state {
            Some(LedgerState::Delivered) => Admission::AlreadyDelivered,
            Some(LedgerState::Queued) => Admission::Queued,
            // It was, or is just being, sent for another caller.
            Some(LedgerState::Sending | LedgerState::Dead) | None => return Ok(Some(Admission::InFlight)),
        };
        if is_conflicting {
            self.dead_letter_conflict(delivery).await?;
        }
        Ok(Some(admission))
    }

    /// Keeps another event under a known key as a dead letter, once: its caller is answered as for a repeat.
    async fn dead_letter_conflict(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let (conflicting, reason) = (delivery.as_conflicting_event(), Reason::without_status(ReasonCode::IdConflict));
        if self.ledger.state(&conflicting.id).await?.is_some() {
            return Ok(());
        }
        // The letter first: what is on record is not kept again. It dies as it comes, as its letter says.
        self.queue.dead_letter(&conflicting, reason).await?;
        self.ledger.mark_dead(&conflicting, Timestamp::UNIX_EPOCH, reason, conflicting.received_at).await?;
        DeliveryEvent { reason: Some(reason), ..DeliveryEvent::for_delivery(&conflicting, EventOutcome::DeadLettered) }
            .emit();
        Ok(())
    }

    async fn lock(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let update = Update::new("SET lock_holder = :id, lease_until = :until")
            // Who has it already is this one: it was taken, the answer was lost, and the SDK has asked once more.
            .condition(
                "attribute_not_exists(waiting) \
                 AND (attribute_not_exists(lock_holder) OR lease_until < :now OR lock_holder = :id)",
            )
            .string_attr(":id", delivery.id.as_str())
            .number_attr(":until", lease_end(now).as_millisecond())
            .number_attr(":now", now.as_millisecond());
        Ok(self.ledger.table().update(&contact_key(&delivery.contact), update, now).await?.is_some())
    }

    async fn lock_or_enqueue(&self, delivery: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        if mode == DeliveryMode::Sync && self.lock(delivery).await? {
            return Ok(Admission::SendNow);
        }
        self.enqueue(delivery).await.map(|()| Admission::Queued)
    }

    /// Takes the lane for what could not be stored, where nothing is known of it: it may be in the queue all the same, and
    /// a worker may have been faster than the news that its storing failed.
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

    /// Takes what was neither sent nor begun by a worker off the record, so that the next run of its row does not wait for
    /// this one.
    async fn discard_record(&self, delivery: &Delivery) -> Result<(), StoreError> {
        if is_idempotent(delivery) { self.ledger.delete_if_unclaimed(&delivery.id).await } else { Ok(()) }
    }

    async fn unlock(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreError> {
        let update = Update::new(if delivered {
            "SET delivered_through = :through REMOVE lock_holder, lease_until"
        } else {
            "REMOVE lock_holder, lease_until"
        });
        let update = update.condition("lock_holder = :id").string_attr(":id", delivery.id.as_str());
        let update = if delivered { set_delivered_through(update, delivery) } else { update };
        self.ledger.table().update(&contact_key(&delivery.contact), update, self.clock.now()).await.map(drop)
    }

    async fn enqueue(&self, delivery: &Delivery) -> Result<(), StoreError> {
        // The lane is closed before the message is on its way: nothing may pass it.
        let update = Update::new("ADD waiting :ids").bind_string_set(":ids", [arrival_key(delivery)]);
        self.ledger.table().update(&contact_key(&delivery.contact), update, self.clock.now()).await?;
        if let Err(SendError { error, maybe_enqueued }) = self.queue.send(delivery, &self.clock.new_id()).await {
            // What may be in the queue keeps the lane closed: nothing newer may pass it.
            if !maybe_enqueued {
                self.finish(delivery, false).await?;
            }
            return Err(error);
        }
        // It is stored: that the record of it is missing only means that a repeat is stored once more, and sent once.
        if let Err(error) = self.ledger.mark_queued(delivery, self.clock.now()).await {
            warn!(delivery.id = %delivery.id, %error, "a stored delivery could not be recorded");
        }
        Ok(())
    }

    /// Puts the holder of the lane into the queue, in front of everything.
    async fn defer(&self, delivery: &Delivery, deferral: Deferred) -> Result<(), StoreError> {
        let now = self.clock.now();
        let id = delivery.id.as_str();
        // On record first: a worker must not take it before its time.
        self.ledger.mark_deferred(delivery, deferral, now).await?;
        // In front also where nothing waits yet: what comes from here on may be in the queue before this one is.
        let message = message::encode(delivery).map_err(|error| StoreError(error.to_string()))?;
        let update = Update::new(
            "SET deferred_id = :id, deferred_message = :first REMOVE lock_holder, lease_until ADD waiting :ids",
        )
        .condition("lock_holder = :id")
        .string_attr(":id", id)
        .string_attr(":first", &message)
        .bind_string_set(":ids", [arrival_key(delivery)]);
        let updated = self.ledger.table().update_or_current(&contact_key(&delivery.contact), update, now).await?;
        // What waits already has only lost the answer to the change.
        if updated.is_err_and(|item| !waiting_entries(&item).any(|entry| *entry == arrival_key(delivery))) {
            return Err(StoreError("the lane was given to somebody else".to_owned()));
        }
        if let Err(SendError { error, maybe_enqueued }) = self.queue.send(delivery, &self.clock.new_id()).await {
            if !maybe_enqueued {
                self.finish(delivery, false).await?;
            }
            self.ledger.delete_if_unclaimed(&delivery.id).await?;
            return Err(error);
        }
        self.ledger.mark_queued(delivery, self.clock.now()).await
    }
}

impl<A: Clock> FastPath for ContactFastPath<A> {
    /// Others see in the table for how long a caller can still be there: nothing has to be kept here.
    type Guard = ();

    async fn admit(&self, delivery: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        if let Some(admission) = self.begin_direct(delivery).await? {
            return Ok(admission);
        }
        let admission = self.lock_or_enqueue(delivery, mode).await;
        if admission.is_err() {
            self.discard_record(delivery).await?;
        }
        admission
    }

    /// The lane in the table is what sandboxes know of each other: nothing is sent without it.
    async fn admit_without_record(&self, delivery: &Delivery) -> Result<Admission, StoreError> {
        if let Some(admission) = self.begin_direct(delivery).await? {
            return Ok(admission);
        }
        let admission = self.lock_if_unknown(delivery).await;
        if !matches!(admission, Ok(Admission::SendNow)) {
            self.discard_record(delivery).await?;
        }
        admission
    }

    fn guard(&self, _: &Delivery) {}

    async fn complete(&self, delivery: &Delivery, result: FastPathResult) -> Result<(), StoreError> {
        match result {
            FastPathResult::Delivered => {
                if is_idempotent(delivery) {
                    self.ledger.mark_delivered_directly(&delivery.id, self.clock.now()).await?;
                }
                self.unlock(delivery, true).await
            }
            FastPathResult::Rejected => {
                self.discard_record(delivery).await?;
                self.unlock(delivery, false).await
            }
            // Its message is not parked, so nobody shows it before its time.
            FastPathResult::Deferred { attempts, retry_at: at, reason, no_early_retry: _ } => {
                self.defer(delivery, Deferred { attempts, retry_at: at, reason }).await
            }
        }
    }
}

/// Whether the same delivery can come again: a contact's update is another one each time.
fn is_idempotent(delivery: &Delivery) -> bool {
    matches!(delivery.kind, DeliveryKind::LoopsEvent { .. })
}

fn is_locked(item: &Item, now: Timestamp) -> bool {
    string_attr(item, "lock_holder").is_some()
        && time_attr(item, "lease_until").is_some_and(|lease_end| lease_end > now)
}

/// Until when a lane that is taken now may be held.
fn lease_end(now: Timestamp) -> Timestamp {
    now.checked_add(LOCK_LEASE).unwrap_or(now)
}

/// Notes in a change up to when the contact's deliveries were delivered.
fn set_delivered_through(update: Update, delivery: &Delivery) -> Update {
    update.number_attr(":through", delivery.received_at.as_millisecond())
}

/// How a delivery is noted in its contact's item: when it came, and its id.
#[must_use]
pub fn arrival_key(delivery: &Delivery) -> String {
    format!("{:015}#{}", delivery.received_at.as_millisecond(), delivery.id)
}

/// What is noted as waiting since so long before this delivery that it cannot be in the queue any more.
fn stale_entries(item: &Item, delivery: &Delivery) -> Vec<String> {
    let cutoff_ms =
        delivery.received_at.as_millisecond().saturating_sub(REORDER_WINDOW.as_millis().try_into().unwrap_or(i64::MAX));
    let deferred_id = string_attr(item, "deferred_id");
    let stale = waiting_entries(item).filter(|entry| {
        let (at, id) = entry.split_once('#').unwrap_or_default();
        at.parse().is_ok_and(|at: i64| at < cutoff_ms) && deferred_id != Some(id)
    });
    stale.cloned().collect()
}

/// The places of what waits in the queue.
fn waiting_entries(item: &Item) -> impl Iterator<Item = &String> {
    item.get("waiting").and_then(|value| value.as_ss().ok()).into_iter().flatten()
}

/// The key of a contact's item, in which `waiting` has the places of what is in the queue, and `delivered_through` the time at
/// which the relay took the latest that was delivered.
#[must_use]
pub fn contact_key(contact: &ContactKey) -> String {
    format!("contact#{}", contact.as_str())
}
