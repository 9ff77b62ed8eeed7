//! Dead letters in SQS, as an operator reads, redrives and deletes them.
//!
//! A FIFO queue can only be read by receiving. A received message is hidden from others, and blocks the later messages of its
//! contact, until it is released or its lease ends.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName};
use bytes::Bytes;
use jiff::Timestamp;
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions, RedriveOutcome};
use relay_core::delivery::{BodyHash, Delivery, Direction};
use relay_core::policy::retry;

use crate::admin::{StackAdmin, call, message_count, queue_name};
use crate::ledger::accounts;
use crate::ledger::contacts::{contact_key, is_locked};
use crate::ledger::deliveries::{LedgerState, delivery_key, state_of};
use crate::ledger::items::{
    BODY_HASH, DELIVERED_THROUGH, DROPPED, DROPPED_AT, LEASE_UNTIL, LOCK_HOLDER, RETRIED, RETRIED_AT, UNKNOWN_SINCE,
    WAITING,
};
use crate::ledger::table::{Item, Update, number_attr, string_attr, time_attr};
use crate::ledger::waiting::{self, arrival_key};
use crate::sdk::error::AwsError;
use crate::sqs::dead_letter::{ATTEMPTS, DIED_AT, REASON, STATUS, attribute_value};
use crate::sqs::message;

const SQS_BATCH: usize = 10;
/// Lease of a received message. It ends by itself only if the CLI is killed.
const LEASE_SECS: i32 = 300;
/// Wait of a receive. With any wait at all, SQS asks all its servers (API reference, "ReceiveMessage").
const RECEIVE_WAIT_SECS: i32 = 1;

/// The dead letters of a stack.
#[derive(Debug)]
pub struct StackDeadLetters {
    stack: StackAdmin,
    directions: Vec<Direction>,
    /// Direction and receipt handle of each message that was received and still exists, by its key.
    leases: BTreeMap<String, (Direction, String)>,
    seen_keys: BTreeSet<String>,
    direction_index: usize,
}

impl StackDeadLetters {
    /// Opens the dead-letter queue of one direction, or of both.
    pub fn new(stack: StackAdmin, direction: Option<Direction>) -> Self {
        let directions = direction.map_or_else(|| Direction::ALL.to_vec(), |direction| vec![direction]);
        Self { stack, directions, leases: BTreeMap::new(), seen_keys: BTreeSet::new(), direction_index: 0 }
    }

    async fn receive_messages(&self, direction: Direction) -> Result<Vec<Message>, AwsError> {
        let (sqs, url) = (&self.stack.sqs, &self.stack.queues_of(direction).dead_letters);
        let request = sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(SQS_BATCH).unwrap_or(10))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .visibility_timeout(LEASE_SECS)
            .wait_time_seconds(RECEIVE_WAIT_SECS);
        match request.send().await {
            Ok(response) => Ok(response.messages.unwrap_or_default()),
            Err(error) => Err(call(sqs, "sqs:ReceiveMessage", url).to_error(&error)),
        }
    }

    /// Returns the delivery that a redrive makes of a dead letter's: the same, or its copy for the account that is served
    /// now. None if it was taken for another account, and may not go to this one.
    async fn redirect(&self, delivery: &Delivery, options: RedriveOptions) -> Result<Option<Delivery>, AwsError> {
        let accounts = accounts::served(&self.stack.ledger).await?;
        let current = accounts.current(delivery.kind.direction());
        Ok(match delivery.account() == *current {
            true => Some(delivery.clone()),
            false if options.redirect => Some(delivery.clone().in_account(current)),
            false => None,
        })
    }

    /// Returns what a redrive would come to, and the contact's item if it must be locked for it.
    async fn plan(
        &self,
        dead_letter: &DeadLetter,
        delivery: &Delivery,
        options: RedriveOptions,
    ) -> Result<(RedriveOutcome, Item), AwsError> {
        let now = Timestamp::now();
        let ledger_item = self.stack.ledger.get(&delivery_key(&delivery.id)).await?;
        if let Some(outcome) = existing_outcome(&ledger_item, delivery, &dead_letter.key, options, now) {
            return Ok((outcome, Item::new()));
        }
        if dead_letter.direction == Direction::LoopsToClay {
            return Ok((RedriveOutcome::Redriven, Item::new()));
        }
        let contact = self.stack.ledger.get(&contact_key(&delivery.contact)).await?;
        let outcome = outcome_after_contact(&contact, delivery, options.even_if_older, now);
        Ok((outcome, contact))
    }

    /// Sends a dead letter to the queue of its direction, with the time of its failure, by which a worker recognises a
    /// redrive. SQS ignores a second send for five minutes; after that the ledger tells a repeat.
    async fn send_to_queue(&self, dead_letter: &DeadLetter, group: &str, body: String) -> Result<(), AwsError> {
        let (sqs, url) = (&self.stack.sqs, &self.stack.queues_of(dead_letter.direction).queue);
        let request = sqs.send_message().queue_url(url).message_body(body).message_group_id(group);
        let died_at = dead_letter.dead_lettered_at.and_then(|at| attribute_value("String", &at.to_string()).ok());
        let request = died_at.into_iter().fold(request, |request, at| request.message_attributes(DIED_AT, at));
        let result = request.message_deduplication_id(format!("retry_{}", dead_letter.key)).send().await;
        result.map(drop).map_err(|error| call(sqs, "sqs:SendMessage", url).to_error(&error))
    }

    /// Closes the fast path of a contact, so that nothing newer passes the delivery. Returns false if the contact has
    /// changed since it was read.
    async fn close_fast_path(&self, delivery: &Delivery, contact: &Item) -> Result<bool, AwsError> {
        let now = Timestamp::now();
        let update = Update::default()
            .add(WAITING, vec![arrival_key(delivery)])
            .only_if(format!(
                "attribute_not_exists({LOCK_HOLDER}) OR {LEASE_UNTIL} < :now OR {LEASE_UNTIL} > :latest_credible"
            ))
            .bind("latest_credible", retry::latest_credible_wait(now))
            .bind("now", now)
            .only_if_unchanged(DELIVERED_THROUGH, number_attr(contact, DELIVERED_THROUGH));
        let update = waiting::only_if_unchanged(update, contact);
        let updated = self.stack.ledger.update(&contact_key(&delivery.contact), update.no_ttl(), now).await?;
        Ok(updated.is_some())
    }

    /// Lets an event begin anew that an operator sends again although it may have been sent, before a worker can receive it.
    async fn forget_unknown_outcome(&self, delivery: &Delivery) -> Result<(), AwsError> {
        let (now, key) = (Timestamp::now(), delivery_key(&delivery.id));
        let (after, until) = retry::safe_resend_range(now);
        let update = Update::default()
            .remove(&[UNKNOWN_SINCE])
            .only_if(format!("{UNKNOWN_SINCE} <= :safe_after OR {UNKNOWN_SINCE} > :safe_until"))
            .bind("safe_after", after)
            .bind("safe_until", until)
            .no_ttl();
        self.stack.ledger.update(&key, update, now).await.map(drop)
    }

    /// Records the operator's action in the ledger, in an attribute for the dead letter and one for the time. The state of the
    /// delivery stays. A delivery that was rejected on arrival has no item, and needs no record.
    async fn record_action(
        &self,
        delivery: &Delivery,
        dead_letter: &DeadLetter,
        (key_attr, time_attr): (&str, &str),
    ) -> Result<(), AwsError> {
        let now = Timestamp::now();
        let update = Update::default()
            .set(key_attr, dead_letter.key.as_str())
            .set(time_attr, now)
            .only_if(format!("{BODY_HASH} = :hash"))
            .bind("hash", BodyHash::compute(&delivery.body).as_str())
            .no_ttl();
        self.stack.ledger.update(&delivery_key(&delivery.id), update, now).await.map(drop)
    }

    async fn delete_message(&mut self, dead_letter: &DeadLetter) -> Result<bool, AwsError> {
        let Some((direction, receipt)) = self.leases.get(&dead_letter.key) else { return Ok(false) };
        let (sqs, url) = (&self.stack.sqs, &self.stack.queues_of(*direction).dead_letters);
        let result = sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await;
        result.map_err(|error| call(sqs, "sqs:DeleteMessage", url).to_error(&error))?;
        Ok(self.leases.remove(&dead_letter.key).is_some())
    }

    async fn make_visible(&self, direction: Direction, receipts: &[&String]) -> Result<(), AwsError> {
        let (sqs, url) = (&self.stack.sqs, &self.stack.queues_of(direction).dead_letters);
        let entries = receipts.iter().enumerate().filter_map(|(index, receipt)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(*receipt).visibility_timeout(0).build().ok()
        });
        let request = sqs.change_message_visibility_batch().queue_url(url).set_entries(Some(entries.collect()));
        let result = request.send().await;
        result.map(drop).map_err(|error| call(sqs, "sqs:ChangeMessageVisibility", queue_name(url)).to_error(&error))
    }
}

impl DeadLetterQueue for StackDeadLetters {
    type Error = AwsError;

    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, AwsError> {
        while let Some(direction) = self.directions.get(self.direction_index).copied() {
            let mut unseen = Vec::new();
            for message in self.receive_messages(direction).await? {
                let Some(key) = message.message_id.clone() else { continue };
                let receipt = message.receipt_handle.clone().unwrap_or_default();
                self.leases.insert(key.clone(), (direction, receipt));
                // A message whose lease has ended comes again, and is not a new one.
                if self.seen_keys.insert(key.clone()) {
                    unseen.push(dead_letter_from_message(key, direction, &message));
                }
            }
            if !unseen.is_empty() {
                return Ok(unseen);
            }
            self.direction_index += 1;
        }
        Ok(Vec::new())
    }

    async fn plan_redrive(
        &self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> Result<RedriveOutcome, AwsError> {
        let Some(delivery) = dead_letter.delivery() else { return Ok(RedriveOutcome::Unreadable) };
        match self.redirect(delivery, options).await? {
            Some(delivery) => Ok(self.plan(dead_letter, &delivery, options).await?.0),
            None => Ok(RedriveOutcome::OtherDestination),
        }
    }

    async fn redrive(&mut self, dead_letter: &DeadLetter, options: RedriveOptions) -> Result<RedriveOutcome, AwsError> {
        let Some(taken) = dead_letter.delivery() else { return Ok(RedriveOutcome::Unreadable) };
        let Some(delivery) = self.redirect(taken, options).await? else {
            return Ok(RedriveOutcome::OtherDestination);
        };
        let Ok(body) = message::encode(&delivery) else { return Ok(RedriveOutcome::Unreadable) };
        let (outcome, contact) = self.plan(dead_letter, &delivery, options).await?;
        if outcome != RedriveOutcome::Redriven {
            if !outcome.stays_in_dlq() {
                self.delete_message(dead_letter).await?;
            }
            return Ok(outcome);
        }
        if dead_letter.direction == Direction::ClayToLoops && !self.close_fast_path(&delivery, &contact).await? {
            return Ok(RedriveOutcome::Busy);
        }
        if options.even_if_sent {
            self.forget_unknown_outcome(&delivery).await?;
        }
        // In this order: after an interruption, the dead letter is still there, and the ledger tells what was done.
        self.send_to_queue(dead_letter, delivery.contact.as_str(), body).await?;
        self.record_action(taken, dead_letter, (RETRIED, RETRIED_AT)).await?;
        self.delete_message(dead_letter).await?;
        Ok(RedriveOutcome::Redriven)
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, AwsError> {
        let deleted = self.delete_message(dead_letter).await?;
        if let (true, Some(delivery)) = (deleted, dead_letter.delivery()) {
            self.record_action(delivery, dead_letter, (DROPPED, DROPPED_AT)).await?;
        }
        Ok(deleted)
    }

    async fn release(&mut self) {
        let leases = std::mem::take(&mut self.leases);
        (self.seen_keys, self.direction_index) = (BTreeSet::new(), 0);
        for direction in Direction::ALL {
            let receipts: Vec<&String> =
                leases.values().filter(|(leased, _)| *leased == direction).map(|(_, receipt)| receipt).collect();
            for batch in receipts.chunks(SQS_BATCH) {
                // A message that cannot be released becomes visible at the end of its lease.
                let _ = self.make_visible(direction, batch).await;
            }
        }
    }

    async fn count(&self) -> Result<u64, AwsError> {
        let mut total = 0;
        for direction in &self.directions {
            total += message_count(&self.stack.sqs, &self.stack.queues_of(*direction).dead_letters).await?;
        }
        Ok(total)
    }
}

/// Returns the outcome that the ledger's item of a delivery decides.
fn existing_outcome(
    item: &Item,
    delivery: &Delivery,
    key: &str,
    options: RedriveOptions,
    now: Timestamp,
) -> Option<RedriveOutcome> {
    let hash = BodyHash::compute(&delivery.body);
    let same_body = string_attr(item, BODY_HASH).is_none_or(|known| known == hash.as_str());
    match state_of(item) {
        _ if string_attr(item, RETRIED) == Some(key) => Some(RedriveOutcome::AlreadyRedriven),
        Some(LedgerState::Delivered) if same_body => Some(RedriveOutcome::AlreadyDelivered),
        Some(LedgerState::Dead)
            if !options.even_if_sent && retry::is_resend_unsafe(time_attr(item, UNKNOWN_SINCE), now) =>
        {
            Some(RedriveOutcome::OutcomeUnknown)
        }
        // An event whose row was corrected and failed again has another body, and may be sent.
        Some(LedgerState::Dead) => None,
        Some(_) if !same_body => Some(RedriveOutcome::Conflict),
        _ => None,
    }
}

/// Returns the outcome for a contact of which this is known.
fn outcome_after_contact(contact: &Item, delivery: &Delivery, even_if_older: bool, now: Timestamp) -> RedriveOutcome {
    if is_locked(contact, now) {
        return RedriveOutcome::Busy;
    }
    let newer_delivered = time_attr(contact, DELIVERED_THROUGH).is_some_and(|at| at > delivery.received_at);
    let newer_waiting = waiting::has_newer(contact, delivery.received_at);
    if delivery.updates_contact() && !even_if_older && (newer_delivered || newer_waiting) {
        RedriveOutcome::Superseded
    } else {
        RedriveOutcome::Redriven
    }
}

fn dead_letter_from_message(key: String, direction: Direction, message: &Message) -> DeadLetter {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let sent_at = || {
        let at = message.attributes.as_ref()?.get(&MessageSystemAttributeName::SentTimestamp)?;
        Timestamp::from_millisecond(at.parse().ok()?).ok()
    };
    let body = message.body.as_deref().unwrap_or_default();
    DeadLetter {
        key,
        direction,
        content: message::decode(body).map_err(|_| Bytes::copy_from_slice(body.as_bytes())),
        reason: attribute(REASON),
        status: attribute(STATUS).and_then(|status| status.parse().ok()),
        attempts: attribute(ATTEMPTS).and_then(|attempts| attempts.parse().ok()),
        dead_lettered_at: attribute(DIED_AT).and_then(|at| at.parse().ok()).or_else(sent_at),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{DeliveryId, DeliveryKind};
    use relay_core::idempotency::IdempotencyKey;

    use super::*;
    use crate::ledger::items::{DEAD, STATE};

    #[test]
    fn event_that_may_have_been_sent_is_redriven_only_if_allowed() {
        let now = Timestamp::constant(1_800_000_000, 0);
        let delivery = Delivery {
            id: DeliveryId::random("1"),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: now,
            kind: DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") },
            body: Bytes::from_static(b"{}"),
        };
        let outcome = |unknown_for_hours: i64, even_if_sent| {
            let unknown_since = now.as_millisecond() - unknown_for_hours * 60 * 60 * 1000;
            let item = Item::from([
                (STATE.to_owned(), AttributeValue::S(DEAD.to_owned())),
                (UNKNOWN_SINCE.to_owned(), AttributeValue::N(unknown_since.to_string())),
            ]);
            let options = RedriveOptions { even_if_older: true, even_if_sent, redirect: false };
            existing_outcome(&item, &delivery, "key", options, now)
        };
        assert_eq!(outcome(22, false), None);
        assert_eq!(outcome(23, false), Some(RedriveOutcome::OutcomeUnknown));
        assert_eq!(outcome(23, true), None);
    }
}
