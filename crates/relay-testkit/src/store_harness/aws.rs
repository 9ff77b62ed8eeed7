//! The store of the relay on AWS, emulated: what functions call passes by the policies of their roles, and the time for
//! which a message is hidden is that of the test's clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::Clock;
use relay::ports::queue::{Enqueued, FastPath, Queue, StoreError, WebhookLedger};
use relay_aws::lambda::batch::{self, MessageWorker};
use relay_aws::lambda::worker::{ClayWorker, LoopsWorker};
use relay_aws::ledger::contact_lock::ContactFastPath;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::failure_counts::known_counts;
use relay_aws::ledger::table::{Item, LedgerTable};
use relay_aws::sdk::clients::AwsClients;
use relay_aws::sqs::early_release::EarlyRelease;
use relay_aws::sqs::message;
use relay_aws::sqs::queue::SqsQueue;
use relay_core::delivery::{Delivery, DeliveryId, Reason};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{AnyStore, Known, Letter, Moment};
use crate::lambda_fake::event_source::record;
use crate::lambda_fake::services::Services;
use crate::lambda_fake::stack::{self, Stack};
use crate::store_harness::batches::{Batches, die_in_a_batch, letter, work_on_batches};
use crate::store_harness::scripted_destination::{End, ManualClock};

type SharedClock = Arc<ManualClock>;

/// How long messages are really hidden that are hidden by the test's clock.
const REALLY_HIDDEN: i32 = 36_000;
/// How long SQS hides what a worker has that does not come back (the template's `VisibilityTimeout`).
const VISIBILITY: SignedDuration = SignedDuration::from_secs(360);
/// How long SQS knows what was sent (FIFO queues, "deduplication interval").
const DEDUPLICATION: SignedDuration = SignedDuration::from_mins(5);
/// Both directions: queue, dead letters, the function that drains it.
const WAYS: [(&str, &str); 2] = [("ClayQueue", "ClayDeadLetters"), ("LoopsQueue", "LoopsDeadLetters")];

/// A stack of its own.
#[derive(Debug)]
pub struct Aws {
    clock: SharedClock,
    stack: Stack,
    sqs: Client,
    services: Services,
    queue: FrontQueue,
    lane: ContactFastPath<SharedClock>,
    webhooks: Ledger,
    parking: Sandboxes,
    /// The messages that were received: their newest receipts, and when they can be received again.
    hidden: BTreeMap<String, Hidden>,
    /// How often every message seems to have been received.
    pub receives: Option<u32>,
}

#[derive(Debug, Clone)]
struct Hidden {
    queue: String,
    receipt: String,
    until: Timestamp,
}

/// What workers remember as long as they live.
#[derive(Debug, Default)]
struct Sandboxes {
    clay: EarlyRelease,
    loops: EarlyRelease,
}

/// The queue to Clay, which forgets by the test's clock what was sent.
#[derive(Debug)]
struct FrontQueue {
    queue: SqsQueue,
    clock: SharedClock,
    sent: Mutex<Vec<(Delivery, Timestamp)>>,
}

impl Queue for FrontQueue {
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        let now = self.clock.now();
        let long_ago = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |known: &Delivery| known.id == delivery.id && known.body == delivery.body;
            let before = sent.iter().rev().find(|(known, _)| same(known)).map(|(_, at)| *at);
            sent.push((delivery.clone(), now));
            before.is_some_and(|at| now.duration_since(at) >= DEDUPLICATION)
        };
        if !long_ago {
            return self.queue.enqueue(delivery).await;
        }
        let sent = self.queue.send(delivery, &self.clock.new_id()).await;
        sent.map(|()| Enqueued::New).map_err(|failed| failed.error)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        self.queue.dead_letter(delivery, reason).await
    }
}

impl Aws {
    /// What a function sees of the account.
    fn account(&self, function: &str) -> AwsClients {
        stack::account(&self.services.url(), function)
    }

    fn ledger(&self, account: &AwsClients) -> Ledger {
        Ledger::new(LedgerTable::new(account.dynamodb(), self.stack.table().to_owned()))
    }

    fn queue_of(&self, account: &AwsClients, way: usize) -> SqsQueue {
        let (queue, dead_letters) = WAYS[way];
        SqsQueue::new(account.clone(), self.stack.queue(queue).to_owned(), self.stack.queue(dead_letters).to_owned())
    }
}

impl Batches for Aws {
    async fn batch_to_clay(&mut self, end: &End, moment: Option<Moment>) -> bool {
        let account = self.account("clay-delivery");
        let (attempt, ledger) = (end.clone(), self.ledger(&account));
        let (parking, ambient) = (std::mem::take(&mut self.parking.clay), Arc::clone(&self.clock));
        let worker = ClayWorker { attempt, ledger, parking, ambient };
        let worked = self.batch(0, &account, &worker, end, moment).await;
        self.parking.clay = worker.parking;
        worked
    }

    async fn batch_to_loops(&mut self, end: &End) -> bool {
        let account = self.account("loops-delivery");
        let (attempt, ledger) = (end.clone(), self.ledger(&account));
        let (parking, ambient) = (std::mem::take(&mut self.parking.loops), Arc::clone(&self.clock));
        let lane = ContactFastPath::new(self.queue_of(&account, 1), ledger.clone(), Arc::clone(&self.clock));
        let worker = LoopsWorker { attempt, ledger, lane, parking, ambient };
        let worked = self.batch(1, &account, &worker, end, None).await;
        self.parking.loops = worker.parking;
        worked
    }

    fn forget_workers(&mut self) {
        self.parking = Sandboxes::default();
    }
}

impl Aws {
    /// Hands one batch to a worker, as Lambda does; false where there is none.
    async fn batch<W: MessageWorker>(
        &mut self,
        way: usize,
        account: &AwsClients,
        worker: &W,
        end: &End,
        moment: Option<Moment>,
    ) -> bool {
        let url = self.stack.queue(WAYS[way].0).to_owned();
        self.show_what_is_due(&url).await;
        let messages = receive(&self.sqs, &url, REALLY_HIDDEN).await;
        if messages.is_empty() {
            return false;
        }
        let until = self.clock.now().checked_add(VISIBILITY).unwrap_or_default();
        for message in &messages {
            let receipt = message.receipt_handle.clone().unwrap_or_default();
            let hidden = Hidden { queue: url.clone(), receipt, until };
            self.hidden.insert(message.message_id.clone().unwrap_or_default(), hidden);
        }
        let mut records: Vec<Value> = messages.iter().map(record).collect();
        if let Some(receives) = self.receives {
            for record in &mut records {
                record["attributes"]["ApproximateReceiveCount"] = receives.to_string().into();
            }
        }
        let event = serde_json::from_value(json!({"Records": records})).unwrap_or_else(|error| panic!("{error}"));
        let (queue, deadline) = (self.queue_of(account, way), Instant::now() + Duration::from_secs(60));
        let response = tokio::select! {
            response = batch::process_batch(worker, &queue, &self.clock, event, deadline) => response,
            () = end.hangs() => return true,
        };
        if moment == Some(Moment::AfterTheRecord) {
            return true;
        }
        let back: Vec<&str> = response.batch_item_failures.iter().map(|each| each.item_identifier.as_str()).collect();
        for message in &messages {
            let id = message.message_id.as_deref().unwrap_or_default();
            if !back.contains(&id) {
                let receipt = message.receipt_handle.clone().unwrap_or_default();
                let deleted = self.sqs.delete_message().queue_url(&url).receipt_handle(receipt).send().await;
                deleted.unwrap_or_else(|error| panic!("{error:?}"));
                self.hidden.remove(id);
            }
        }
        self.hide_as_told().await;
        true
    }

    /// Notes for how long a worker has hidden messages, and hides them until the test's clock says so.
    async fn hide_as_told(&mut self) {
        let now = self.clock.now();
        for (receipt, seconds) in self.services.hidden_for() {
            let Some(hidden) = self.hidden.values_mut().find(|hidden| hidden.receipt == receipt) else { continue };
            let wait = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            hidden.until = now.checked_add(wait).unwrap_or(now);
            let (queue, seconds) = (hidden.queue.clone(), if seconds == 0 { 0 } else { REALLY_HIDDEN });
            self.change_visibility(&queue, &receipt, seconds).await;
        }
    }

    async fn show_what_is_due(&self, url: &str) {
        let now = self.clock.now();
        for hidden in self.hidden.values().filter(|hidden| hidden.queue == url && hidden.until <= now) {
            self.change_visibility(url, &hidden.receipt, 0).await;
        }
    }

    async fn change_visibility(&self, url: &str, receipt: &str, seconds: i32) {
        let change = self.sqs.change_message_visibility().queue_url(url).receipt_handle(receipt);
        let changed = change.visibility_timeout(seconds).send().await;
        // One that was shown meanwhile is not in flight any more.
        let shown = changed.as_ref().is_err_and(|error| {
            error.as_service_error().is_some_and(ChangeMessageVisibilityError::is_message_not_inflight)
        });
        assert!(shown || changed.is_ok(), "{changed:?}");
    }
}

/// What an item says of a delivery.
pub(super) fn known_in(item: &Item) -> Option<Known> {
    let text = |name: &str| item.get(name)?.as_s().ok().cloned();
    let number = |name: &str| item.get(name)?.as_n().ok()?.parse::<i64>().ok();
    let time = |name: &str| Timestamp::from_millisecond(number(name)?).ok();
    let state = match text("standing")?.as_str() {
        "queued" => "waiting".to_owned(),
        "done" => "delivered".to_owned(),
        other => other.to_owned(),
    };
    let status = number("last_status").and_then(|status| u16::try_from(status).ok()).filter(|status| *status > 0);
    Some(Known {
        state,
        attempts: number("attempts").and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or_default(),
        reason: text("reason").map(|reason| (reason, status)),
        first_attempt_at: time("first_attempt_at"),
        last_attempt_at: time("last_attempt_at"),
        failures: known_counts(item),
    })
}

async fn receive(sqs: &Client, url: &str, hidden: i32) -> Vec<Message> {
    let received = sqs
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .visibility_timeout(hidden)
        .send()
        .await;
    received.unwrap_or_else(|error| panic!("{error:?}")).messages.unwrap_or_default()
}

impl AnyStore for Aws {
    async fn new() -> Self {
        let (stack, clock) = (Stack::make().await, Arc::new(ManualClock::default()));
        let services = Services::start(stack::endpoint(), stack.described(), Arc::default()).await;
        let sqs = stack.account().sqs();
        let of = |function: &str, (queue, dead_letters): (&str, &str)| {
            let account = stack::account(&services.url(), function);
            let ledger = Ledger::new(LedgerTable::new(account.dynamodb(), stack.table().to_owned()));
            let (queue, dead_letters) = (stack.queue(queue).to_owned(), stack.queue(dead_letters).to_owned());
            (SqsQueue::new(account, queue, dead_letters), ledger)
        };
        let (queue, _) = of("loops-to-clay", WAYS[0]);
        let queue = FrontQueue { queue, clock: Arc::clone(&clock), sent: Mutex::default() };
        let (loops, ledger) = of("clay-to-loops-event", WAYS[1]);
        let lane = ContactFastPath::new(loops, ledger, Arc::clone(&clock));
        let (_, webhooks) = of("clay-delivery", WAYS[0]);
        let (parking, hidden) = (Sandboxes::default(), BTreeMap::new());
        Self { clock, stack, sqs, services, queue, lane, webhooks, parking, hidden, receives: None }
    }

    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.queue
    }

    fn lane(&self) -> &impl FastPath {
        &self.lane
    }

    fn webhooks(&self) -> &impl WebhookLedger {
        &self.webhooks
    }

    async fn work(&mut self, end: &End) {
        work_on_batches(self, end).await;
    }

    async fn work_and_die(&mut self, end: &End, moment: Moment) {
        die_in_a_batch(self, end, moment).await;
    }

    async fn let_pass(&mut self, time: SignedDuration) {
        self.clock.pass(time);
        // What DynamoDB does by itself.
        let (dynamodb, table, now) = (self.stack.account().dynamodb(), self.stack.table(), self.clock.now());
        let items = dynamodb.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        for item in items.collect::<Result<Vec<_>, _>>().await.unwrap_or_else(|error| panic!("{error:?}")) {
            let expires = item.get("expires_at").and_then(|at| at.as_n().ok()?.parse::<i64>().ok());
            if expires.is_some_and(|at| at <= now.as_second()) {
                let delete = dynamodb.delete_item().table_name(table).key("pk", item["pk"].clone());
                delete.send().await.unwrap_or_else(|error| panic!("{error:?}"));
            }
        }
    }

    async fn known(&self, id: &DeliveryId) -> Option<Known> {
        let get = self.stack.account().dynamodb().get_item().table_name(self.stack.table()).consistent_read(true);
        let got = get.key("pk", AttributeValue::S(format!("delivery#{id}"))).send().await;
        known_in(&got.unwrap_or_else(|error| panic!("{error:?}")).item?)
    }

    async fn dead_letters(&self) -> Vec<Letter> {
        let mut letters = Vec::new();
        for (_, dead_letters) in WAYS {
            for message in receive(&self.sqs, self.stack.queue(dead_letters), 0).await {
                letters.push(letter(message.body.as_deref().unwrap_or_default(), |name| {
                    message.message_attributes.as_ref()?.get(name)?.string_value.clone()
                }));
            }
        }
        letters
    }

    async fn send_again(&mut self, id: &DeliveryId) {
        for (queue, dead_letters) in WAYS {
            let dead_letters = self.stack.queue(dead_letters);
            for message in receive(&self.sqs, dead_letters, 0).await {
                let body = message.body.clone().unwrap_or_default();
                let Some(delivery) = message::decode(&body).ok().filter(|delivery| delivery.id == *id) else {
                    continue;
                };
                let send = self.sqs.send_message().queue_url(self.stack.queue(queue)).message_body(body);
                // As SQS' own redrive does it: a new message, with what stood on the letter.
                let send = send.set_message_attributes(message.message_attributes.clone());
                let send = send.message_group_id(delivery.contact.as_str());
                let sent = send.message_deduplication_id(self.clock.new_id()).send().await;
                sent.unwrap_or_else(|error| panic!("{error:?}"));
                let receipt = message.receipt_handle.unwrap_or_default();
                let deleted = self.sqs.delete_message().queue_url(dead_letters).receipt_handle(receipt).send().await;
                deleted.unwrap_or_else(|error| panic!("{error:?}"));
                return;
            }
        }
        panic!("{id} is no dead letter");
    }
}

impl Aws {
    /// Puts the message of a row into its queue once more.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub async fn put_again(&self, delivery: &Delivery) {
        let queue = self.queue_of(&self.account("clay-to-loops-event"), 1);
        queue.send(delivery, &self.clock.new_id()).await.unwrap_or_else(|error| panic!("{error:?}"));
    }
}
