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
const WAIT_SECONDS: i32 = 1;

/// The dead letters of a stack.
#[derive(Debug)]
pub struct StackLetters<'a> {
    target: &'a StackTarget,
    directions: Vec<Direction>,
    /// The receipt of what was read and is still there, by the letter's key.
    leases: BTreeMap<String, (Direction, String)>,
    seen: BTreeSet<String>,
    place: usize,
}

impl<'a> StackLetters<'a> {
    /// Those of one direction, or of both.
    #[must_use]
    pub fn new(target: &'a StackTarget, direction: Option<Direction>) -> Self {
        let directions = direction.map_or_else(|| DIRECTIONS.to_vec(), |direction| vec![direction]);
        Self { target, directions, leases: BTreeMap::new(), seen: BTreeSet::new(), place: 0 }
    }

    async fn receive(&self, direction: Direction) -> Result<Vec<Message>, Error> {
        let url = self.target.stack.output(queue_urls(direction).1)?;
        let call = self.target.session.call("sqs:ReceiveMessage", url);
        let received = self
            .target
            .session
            .sqs()
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(SQS_BATCH).unwrap_or(10))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .visibility_timeout(LEASE_SECS)
            .wait_time_seconds(WAIT_SECONDS)
            .send()
            .await;
        Ok(received.map_err(|error| call.to_error(&error))?.messages.unwrap_or_default())
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
    async fn send(&self, letter: &DeadLetter, delivery: &Delivery) -> Result<(), Error> {
        let url = self.target.stack.output(queue_urls(letter.direction).0)?;
        let call = self.target.session.call("sqs:SendMessage", url);
        let body = message::encode(delivery).map_err(|_| Error::UnreadableLetter { key: letter.key.clone() })?;
        let send = self.target.session.sqs().send_message().queue_url(url).message_body(body);
        let send = send.message_group_id(delivery.contact.as_str());
        let send = match letter.died_at.and_then(died_at_attribute) {
            Some(died_at) => send.message_attributes(DIED_AT, died_at),
            None => send,
        };
        let sent = send.message_deduplication_id(format!("retry_{}", letter.key)).send().await;
        sent.map(drop).map_err(|error| call.to_error(&error))
    }

    /// Closes the lane past the queue for the contact of a letter, so that nothing newer passes it; false where somebody
    /// has just taken the lane, or has put something into the queue.
    async fn lock_contact(&self, delivery: &Delivery, contact: &Item) -> Result<bool, Error> {
        let set = AttributeValue::Ss(vec![arrival_key(delivery)]);
        let now = AttributeValue::N(Timestamp::now().as_millisecond().to_string());
        let mut change = update_item(self.target, contact_key(&delivery.contact))?
            .update_expression("ADD waiting :places")
            .expression_attribute_values(":places", set)
            .expression_attribute_values(":now", now);
        let mut condition = "(attribute_not_exists(lock_holder) OR lease_until < :now)".to_owned();
        match waiting(contact).count() {
            0 => condition.push_str(" AND attribute_not_exists(waiting)"),
            waiting => {
                condition.push_str(" AND size(waiting) = :waiting");
                change = change.expression_attribute_values(":waiting", AttributeValue::N(waiting.to_string()));
            }
        }
        match number_attr(contact, "delivered_through") {
            None => condition.push_str(" AND attribute_not_exists(delivered_through)"),
            Some(through) => {
                condition.push_str(" AND delivered_through = :through");
                change = change.expression_attribute_values(":through", AttributeValue::N(through.to_string()));
            }
        }
        update_if(self.target, change.condition_expression(condition)).await
    }

    /// Notes in the ledger what an operator has done with a letter. Where its delivery stands is not touched.
    async fn record_action(&self, delivery: &Delivery, note: &'static str, letter: &DeadLetter) -> Result<(), Error> {
        let now = AttributeValue::N(Timestamp::now().as_millisecond().to_string());
        let hash = AttributeValue::S(BodyHash::compute(&delivery.body).as_str().to_owned());
        let change = update_item(self.target, delivery_key(&delivery.id))?
            .update_expression(note)
            .condition_expression("body_hash = :hash")
            .expression_attribute_values(":hash", hash)
            .expression_attribute_values(":now", now)
            .expression_attribute_values(":letter", AttributeValue::S(letter.key.clone()));
        // What was refused at the door is on no record, and needs none.
        update_if(self.target, change).await.map(drop)
    }

    async fn delete(&mut self, letter: &DeadLetter) -> Result<(), Error> {
        let url = self.target.stack.output(queue_urls(letter.direction).1)?;
        let call = self.target.session.call("sqs:DeleteMessage", url);
        let receipt = letter.receipt.as_deref().unwrap_or_default();
        let delete = self.target.session.sqs().delete_message().queue_url(url).receipt_handle(receipt).send().await;
        delete.map_err(|error| call.to_error(&error))?;
        self.leases.remove(&letter.key);
        Ok(())
    }
}

impl DeadLetterQueue for StackLetters<'_> {
    async fn read(&mut self) -> Result<Vec<DeadLetter>, Error> {
        while let Some(direction) = self.directions.get(self.place).copied() {
            let messages = self.receive(direction).await?;
            let letters: Vec<DeadLetter> = messages.iter().filter_map(|message| letter(direction, message)).collect();
            for letter in &letters {
                let receipt = letter.receipt.clone().unwrap_or_default();
                self.leases.insert(letter.key.clone(), (direction, receipt));
            }
            // One whose time was up while it was held comes again, and is not a new one.
            let new: Vec<DeadLetter> =
                letters.into_iter().filter(|letter| self.seen.insert(letter.key.clone())).collect();
            if !new.is_empty() {
                return Ok(new);
            }
            self.place += 1;
        }
        Ok(Vec::new())
    }

    async fn plan_redrive(&self, letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let Some(delivery) = &letter.delivery else { return Ok(RedriveOutcome::Unreadable) };
        let known = self.ledger_item(delivery).await?;
        if let Some(verdict) = existing_outcome(&known, delivery, &letter.key) {
            return Ok(verdict);
        }
        if letter.direction == Direction::LoopsToClay {
            return Ok(RedriveOutcome::Redriven);
        }
        Ok(is_superseded(&self.contact_item(delivery).await?, delivery, even_if_older, Timestamp::now()))
    }

    async fn retry(&mut self, letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let Some(delivery) = &letter.delivery else { return Ok(RedriveOutcome::Unreadable) };
        let known = self.ledger_item(delivery).await?;
        if let Some(verdict) = existing_outcome(&known, delivery, &letter.key) {
            if !verdict.stays_in_dlq() {
                self.delete(letter).await?;
            }
            return Ok(verdict);
        }
        if letter.direction == Direction::ClayToLoops {
            let contact = self.contact_item(delivery).await?;
            let verdict = is_superseded(&contact, delivery, even_if_older, Timestamp::now());
            if verdict != RedriveOutcome::Redriven {
                return Ok(verdict);
            }
            if !self.lock_contact(delivery, &contact).await? {
                return Ok(RedriveOutcome::Busy);
            }
        }
        // In this order: ended after any of these, the letter is still there, and what was done is known.
        self.send(letter, delivery).await?;
        self.record_action(delivery, "SET retried = :letter, retried_at = :now", letter).await?;
        self.delete(letter).await?;
        Ok(RedriveOutcome::Redriven)
    }

    async fn delete(&mut self, letter: &DeadLetter) -> Result<bool, Error> {
        self.delete(letter).await?;
        if let Some(delivery) = &letter.delivery {
            self.record_action(delivery, "SET dropped = :letter, dropped_at = :now", letter).await?;
        }
        Ok(true)
    }

    async fn release(&mut self) {
        let held = std::mem::take(&mut self.leases);
        (self.seen, self.place) = (BTreeSet::new(), 0);
        for direction in DIRECTIONS {
            let receipts: Vec<&String> =
                held.values().filter(|(of, _)| *of == direction).map(|(_, receipt)| receipt).collect();
            let Ok(url) = self.target.stack.output(queue_urls(direction).1) else { continue };
            for page in receipts.chunks(SQS_BATCH) {
                // What cannot be given back comes back by itself.
                let _ = make_visible(self.target, url, page).await;
            }
        }
    }

    async fn count(&self) -> Result<u64, Error> {
        let mut letters = 0;
        for direction in &self.directions {
            letters += approximate_len(self.target, queue_urls(*direction).1).await?;
        }
        Ok(letters)
    }
}

/// What the ledger knows of a letter's delivery that makes sending it unnecessary, or wrong.
fn existing_outcome(known: &Item, delivery: &Delivery, key: &str) -> Option<RedriveOutcome> {
    let hash = BodyHash::compute(&delivery.body);
    let same = string_attr(known, "body_hash").is_none_or(|known| known == hash.as_str());
    match string_attr(known, "state") {
        _ if string_attr(known, "retried") == Some(key) => Some(RedriveOutcome::AlreadyRedriven),
        Some("delivered") if same => Some(RedriveOutcome::AlreadyDelivered),
        // An event that was mended and died again has another body, and may be sent.
        Some("dead") => None,
        Some(_) if !same => Some(RedriveOutcome::Conflict),
        _ => None,
    }
}

/// Whether a letter fits behind what is known of its contact.
fn is_superseded(contact: &Item, delivery: &Delivery, even_if_older: bool, now: Timestamp) -> RedriveOutcome {
    if string_attr(contact, "lock_holder").is_some()
        && time_attr(contact, "lease_until").is_some_and(|until| until > now)
    {
        return RedriveOutcome::Busy;
    }
    let taken_at = delivery.received_at.as_millisecond();
    let delivered = number_attr(contact, "delivered_through").is_some_and(|through| through > taken_at);
    let waits = waiting(contact)
        .any(|place| place.split_once('#').and_then(|(at, _)| at.parse::<i64>().ok()).is_some_and(|at| at > taken_at));
    if delivery.updates_contact() && !even_if_older && (delivered || waits) {
        RedriveOutcome::Superseded
    } else {
        RedriveOutcome::Redriven
    }
}

/// The places of what waits in a contact's item.
fn waiting(contact: &Item) -> impl Iterator<Item = &String> {
    contact.get("waiting").and_then(|waiting| waiting.as_ss().ok()).into_iter().flatten()
}

/// When a letter died, as the attribute of a message.
fn died_at_attribute(at: Timestamp) -> Option<MessageAttributeValue> {
    MessageAttributeValue::builder().data_type("String").string_value(at.to_string()).build().ok()
}

/// A message as a letter.
fn letter(direction: Direction, message: &Message) -> Option<DeadLetter> {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let time = |name: &str| attribute(name).and_then(|at| at.parse::<Timestamp>().ok());
    let sent_at = message.attributes.as_ref().and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp));
    let sent_at = sent_at.and_then(|at| Timestamp::from_millisecond(at.parse().ok()?).ok());
    let body = message.body.as_deref().unwrap_or_default();
    let delivery = message::decode(body).ok();
    Some(DeadLetter {
        key: message.message_id.clone()?,
        receipt: message.receipt_handle.clone(),
        direction,
        bytes: delivery.as_ref().map_or(body.len(), |delivery| delivery.body.len()),
        raw_body: delivery.is_none().then(|| Bytes::copy_from_slice(body.as_bytes())),
        reason: attribute(REASON),
        status: attribute(STATUS).and_then(|status| status.parse().ok()),
        attempts: attribute(ATTEMPTS).and_then(|attempts| attempts.parse().ok()),
        died_at: time(DIED_AT).or(sent_at),
        delivery,
    })
}
