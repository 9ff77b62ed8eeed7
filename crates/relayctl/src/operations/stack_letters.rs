//! The dead letters of a stack. A FIFO queue is read by receiving: what is read is hidden from everybody else, and keeps what
//! stands behind it in its contact's group from being read, until it is given back, or its time is up.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use bytes::Bytes;
use jiff::Timestamp;
use relay_aws::ledger::contact_lock::{arrival_key, contact_key};
use relay_aws::ledger::deliveries::delivery_key;
use relay_aws::ledger::table::{Item, number_attr, string_attr, time_attr};
use relay_aws::sqs::dead_letter::{ATTEMPTS, DIED_AT, REASON, STATUS};
use relay_aws::sqs::message;
use relay_core::delivery::{BodyHash, Delivery, Direction};

use super::DIRECTIONS;
use crate::aws::ledger_item::{item, update_if, update_item};
use crate::error::Error;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};
use crate::operations::stack::{SQS_BATCH, approximate_len, make_visible, queue_urls};
use crate::target::StackTarget;

/// How long what is read stays hidden, should this program be killed. Given back, it is not.
const LEASE_SECS: i32 = 300;
/// How long SQS looks for messages: with any time at all, it looks on all its servers (API reference, "ReceiveMessage").
const RECEIVE_WAIT_SECS: i32 = 1;

/// The dead letters of a stack.
#[derive(Debug)]
pub struct StackDeadLetters<'a> {
    target: &'a StackTarget,
    directions: Vec<Direction>,
    /// The receipt of what was read and is still there, by the letter's key.
    leases: BTreeMap<String, (Direction, String)>,
    seen_keys: BTreeSet<String>,
    direction_index: usize,
}

impl<'a> StackDeadLetters<'a> {
    /// Those of one direction, or of both.
    #[must_use]
    pub fn new(target: &'a StackTarget, direction: Option<Direction>) -> Self {
        let directions = direction.map_or_else(|| DIRECTIONS.to_vec(), |direction| vec![direction]);
        Self { target, directions, leases: BTreeMap::new(), seen_keys: BTreeSet::new(), direction_index: 0 }
    }

    async fn receive_messages(&self, direction: Direction) -> Result<Vec<Message>, Error> {
        let url = self.target.stack.output(queue_urls(direction).1)?;
        let call = self.target.session.call("sqs:ReceiveMessage", url);
        let response = self
            .target
            .session
            .sqs()
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(SQS_BATCH).unwrap_or(10))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .visibility_timeout(LEASE_SECS)
            .wait_time_seconds(RECEIVE_WAIT_SECS)
            .send()
            .await;
        Ok(response.map_err(|error| call.to_error(&error))?.messages.unwrap_or_default())
    }

    async fn ledger_item(&self, delivery: &Delivery) -> Result<Item, Error> {
        Ok(item(self.target, delivery_key(&delivery.id)).await?.unwrap_or_default())
    }

    async fn contact_item(&self, delivery: &Delivery) -> Result<Item, Error> {
        Ok(item(self.target, contact_key(&delivery.contact)).await?.unwrap_or_default())
    }

    /// Puts the letter into the queue of its direction, with the time of its death, by which a worker knows that a person
    /// means it. The same letter is the same sending for five minutes; after that the ledger tells a second message from the
    /// first.
    async fn send_to_queue(&self, dead_letter: &DeadLetter, delivery: &Delivery) -> Result<(), Error> {
        let url = self.target.stack.output(queue_urls(dead_letter.direction).0)?;
        let call = self.target.session.call("sqs:SendMessage", url);
        let body =
            message::encode(delivery).map_err(|_| Error::UnreadableDeadLetter { key: dead_letter.key.clone() })?;
        let request = self.target.session.sqs().send_message().queue_url(url).message_body(body);
        let request = request.message_group_id(delivery.contact.as_str());
        let request = match dead_letter.dead_lettered_at.and_then(dead_lettered_at_attribute) {
            Some(attribute) => request.message_attributes(DIED_AT, attribute),
            None => request,
        };
        let result = request.message_deduplication_id(format!("retry_{}", dead_letter.key)).send().await;
        Ok(result.map(drop).map_err(|error| call.to_error(&error))?)
    }

    /// Closes the lane past the queue for the contact of a letter, so that nothing newer passes it; false where somebody
    /// has just taken the lane, or has put something into the queue.
    async fn lock_contact(&self, delivery: &Delivery, contact: &Item) -> Result<bool, Error> {
        let new_entries = AttributeValue::Ss(vec![arrival_key(delivery)]);
        let now = AttributeValue::N(Timestamp::now().as_millisecond().to_string());
        let mut update = update_item(self.target, contact_key(&delivery.contact))?
            .update_expression("ADD waiting :places")
            .expression_attribute_values(":places", new_entries)
            .expression_attribute_values(":now", now);
        let mut condition = "(attribute_not_exists(lock_holder) OR lease_until < :now)".to_owned();
        match waiting_entries(contact).count() {
            0 => condition.push_str(" AND attribute_not_exists(waiting)"),
            waiting_count => {
                condition.push_str(" AND size(waiting) = :waiting");
                update = update.expression_attribute_values(":waiting", AttributeValue::N(waiting_count.to_string()));
            }
        }
        match number_attr(contact, "delivered_through") {
            None => condition.push_str(" AND attribute_not_exists(delivered_through)"),
            Some(delivered_through) => {
                condition.push_str(" AND delivered_through = :through");
                update =
                    update.expression_attribute_values(":through", AttributeValue::N(delivered_through.to_string()));
            }
        }
        Ok(update_if(self.target, update.condition_expression(condition)).await?)
    }

    /// Notes in the ledger what an operator has done with a letter. Where its delivery stands is not touched.
    async fn record_action(
        &self,
        delivery: &Delivery,
        update_expression: &'static str,
        dead_letter: &DeadLetter,
    ) -> Result<(), Error> {
        let now = AttributeValue::N(Timestamp::now().as_millisecond().to_string());
        let hash = AttributeValue::S(BodyHash::compute(&delivery.body).as_str().to_owned());
        let update = update_item(self.target, delivery_key(&delivery.id))?
            .update_expression(update_expression)
            .condition_expression("body_hash = :hash")
            .expression_attribute_values(":hash", hash)
            .expression_attribute_values(":now", now)
            .expression_attribute_values(":letter", AttributeValue::S(dead_letter.key.clone()));
        // What was refused at the door is on no record, and needs none.
        Ok(update_if(self.target, update).await.map(drop)?)
    }

    async fn delete_message(&mut self, dead_letter: &DeadLetter) -> Result<(), Error> {
        let url = self.target.stack.output(queue_urls(dead_letter.direction).1)?;
        let call = self.target.session.call("sqs:DeleteMessage", url);
        let receipt_handle = dead_letter.receipt_handle.as_deref().unwrap_or_default();
        let result =
            self.target.session.sqs().delete_message().queue_url(url).receipt_handle(receipt_handle).send().await;
        result.map_err(|error| call.to_error(&error))?;
        self.leases.remove(&dead_letter.key);
        Ok(())
    }
}

impl DeadLetterQueue for StackDeadLetters<'_> {
    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Error> {
        while let Some(direction) = self.directions.get(self.direction_index).copied() {
            let messages = self.receive_messages(direction).await?;
            let dead_letters: Vec<DeadLetter> =
                messages.iter().filter_map(|message| dead_letter_from_message(direction, message)).collect();
            for dead_letter in &dead_letters {
                let receipt_handle = dead_letter.receipt_handle.clone().unwrap_or_default();
                self.leases.insert(dead_letter.key.clone(), (direction, receipt_handle));
            }
            // One whose time was up while it was held comes again, and is not a new one.
            let unseen: Vec<DeadLetter> =
                dead_letters.into_iter().filter(|dead_letter| self.seen_keys.insert(dead_letter.key.clone())).collect();
            if !unseen.is_empty() {
                return Ok(unseen);
            }
            self.direction_index += 1;
        }
        Ok(Vec::new())
    }

    async fn plan_redrive(&self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let Some(delivery) = &dead_letter.delivery else { return Ok(RedriveOutcome::Unreadable) };
        let ledger_item = self.ledger_item(delivery).await?;
        if let Some(outcome) = existing_outcome(&ledger_item, delivery, &dead_letter.key) {
            return Ok(outcome);
        }
        if dead_letter.direction == Direction::LoopsToClay {
            return Ok(RedriveOutcome::Redriven);
        }
        Ok(is_superseded(&self.contact_item(delivery).await?, delivery, even_if_older, Timestamp::now()))
    }

    async fn redrive(&mut self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let Some(delivery) = &dead_letter.delivery else { return Ok(RedriveOutcome::Unreadable) };
        let ledger_item = self.ledger_item(delivery).await?;
        if let Some(outcome) = existing_outcome(&ledger_item, delivery, &dead_letter.key) {
            if !outcome.stays_in_dlq() {
                self.delete_message(dead_letter).await?;
            }
            return Ok(outcome);
        }
        if dead_letter.direction == Direction::ClayToLoops {
            let contact = self.contact_item(delivery).await?;
            let outcome = is_superseded(&contact, delivery, even_if_older, Timestamp::now());
            if outcome != RedriveOutcome::Redriven {
                return Ok(outcome);
            }
            if !self.lock_contact(delivery, &contact).await? {
                return Ok(RedriveOutcome::Busy);
            }
        }
        // In this order: ended after any of these, the letter is still there, and what was done is known.
        self.send_to_queue(dead_letter, delivery).await?;
        self.record_action(delivery, "SET retried = :letter, retried_at = :now", dead_letter).await?;
        self.delete_message(dead_letter).await?;
        Ok(RedriveOutcome::Redriven)
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, Error> {
        self.delete_message(dead_letter).await?;
        if let Some(delivery) = &dead_letter.delivery {
            self.record_action(delivery, "SET dropped = :letter, dropped_at = :now", dead_letter).await?;
        }
        Ok(true)
    }

    async fn release(&mut self) {
        let leases = std::mem::take(&mut self.leases);
        (self.seen_keys, self.direction_index) = (BTreeSet::new(), 0);
        for direction in DIRECTIONS {
            let receipt_handles: Vec<&String> = leases
                .values()
                .filter(|(leased_direction, _)| *leased_direction == direction)
                .map(|(_, receipt_handle)| receipt_handle)
                .collect();
            let Ok(url) = self.target.stack.output(queue_urls(direction).1) else { continue };
            for batch in receipt_handles.chunks(SQS_BATCH) {
                // What cannot be given back comes back by itself.
                let _ = make_visible(self.target, url, batch).await;
            }
        }
    }

    async fn count(&self) -> Result<u64, Error> {
        let mut total = 0;
        for direction in &self.directions {
            total += approximate_len(self.target, queue_urls(*direction).1).await?;
        }
        Ok(total)
    }
}

/// What the ledger knows of a letter's delivery that makes sending it unnecessary, or wrong.
fn existing_outcome(ledger_item: &Item, delivery: &Delivery, key: &str) -> Option<RedriveOutcome> {
    let hash = BodyHash::compute(&delivery.body);
    let same_body = string_attr(ledger_item, "body_hash").is_none_or(|known| known == hash.as_str());
    match string_attr(ledger_item, "state") {
        _ if string_attr(ledger_item, "retried") == Some(key) => Some(RedriveOutcome::AlreadyRedriven),
        Some("delivered") if same_body => Some(RedriveOutcome::AlreadyDelivered),
        // An event that was mended and died again has another body, and may be sent.
        Some("dead") => None,
        Some(_) if !same_body => Some(RedriveOutcome::Conflict),
        _ => None,
    }
}

/// Whether a letter fits behind what is known of its contact.
fn is_superseded(contact: &Item, delivery: &Delivery, even_if_older: bool, now: Timestamp) -> RedriveOutcome {
    if string_attr(contact, "lock_holder").is_some()
        && time_attr(contact, "lease_until").is_some_and(|lease_until| lease_until > now)
    {
        return RedriveOutcome::Busy;
    }
    let received_ms = delivery.received_at.as_millisecond();
    let newer_delivered =
        number_attr(contact, "delivered_through").is_some_and(|delivered_through| delivered_through > received_ms);
    let newer_waiting = waiting_entries(contact).any(|arrival_key| {
        arrival_key.split_once('#').and_then(|(at, _)| at.parse::<i64>().ok()).is_some_and(|at| at > received_ms)
    });
    if delivery.updates_contact() && !even_if_older && (newer_delivered || newer_waiting) {
        RedriveOutcome::Superseded
    } else {
        RedriveOutcome::Redriven
    }
}

/// The places of what waits in a contact's item.
fn waiting_entries(contact: &Item) -> impl Iterator<Item = &String> {
    contact.get("waiting").and_then(|waiting| waiting.as_ss().ok()).into_iter().flatten()
}

/// When a letter died, as the attribute of a message.
fn dead_lettered_at_attribute(at: Timestamp) -> Option<MessageAttributeValue> {
    MessageAttributeValue::builder().data_type("String").string_value(at.to_string()).build().ok()
}

/// A message as a letter.
fn dead_letter_from_message(direction: Direction, message: &Message) -> Option<DeadLetter> {
    let string_attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let timestamp_attribute = |name: &str| string_attribute(name).and_then(|at| at.parse::<Timestamp>().ok());
    let sent_at =
        message.attributes.as_ref().and_then(|attributes| attributes.get(&MessageSystemAttributeName::SentTimestamp));
    let sent_at = sent_at.and_then(|at| Timestamp::from_millisecond(at.parse().ok()?).ok());
    let body = message.body.as_deref().unwrap_or_default();
    let delivery = message::decode(body).ok();
    Some(DeadLetter {
        key: message.message_id.clone()?,
        receipt_handle: message.receipt_handle.clone(),
        direction,
        body_len: delivery.as_ref().map_or(body.len(), |delivery| delivery.body.len()),
        raw_body: delivery.is_none().then(|| Bytes::copy_from_slice(body.as_bytes())),
        reason: string_attribute(REASON),
        status: string_attribute(STATUS).and_then(|status| status.parse().ok()),
        attempts: string_attribute(ATTEMPTS).and_then(|attempts| attempts.parse().ok()),
        dead_lettered_at: timestamp_attribute(DIED_AT).or(sent_at),
        delivery,
    })
}
