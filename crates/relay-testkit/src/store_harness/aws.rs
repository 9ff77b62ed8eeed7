//! The AWS store on emulated services. The functions' calls pass the policies of their roles, and visibility timeouts
//! follow the test's clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use jiff::{SignedDuration, Timestamp};
use relay::ports::accounts::AccountLedger;
use relay::ports::clock::Clock;
use relay::ports::delivery_status::DeliveryStatusSource;
use relay::ports::queue::{Enqueued, Queue, StoreError};
use relay::ports::row_intake::RowIntake;
use relay::ports::webhook_usage::WebhookLedger;
use relay_aws::lambda::batch;
use relay_aws::lambda::contact_order::{ContactOrder, QueueOrderOnly};
use relay_aws::lambda::worker::QueueWorker;
use relay_aws::ledger::contacts::ContactLedger;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::failure_counts::known_counts;
use relay_aws::ledger::table::{Item, LedgerTable};
use relay_aws::ledger::webhook_usage::BatchedWebhookLedger;
use relay_aws::sdk::clients::AwsClients;
use relay_aws::sqs::message;
use relay_aws::sqs::queue::SqsQueue;
use relay_core::delivery::{Delivery, DeliveryId, Reason};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CrashPoint, DeadLetterSnapshot, DeliverySnapshot, StoreHarness};
use crate::lambda_fake::event_source::to_lambda_record;
use crate::lambda_fake::services::Services;
use crate::lambda_fake::stack::{self, Stack};
use crate::store_harness::batches::{BatchHarness, crash_in_batch, dead_letter_from_message, drain_batches};
use crate::store_harness::scripted_destination::{ManualClock, ScriptedDestination};

/// Real visibility timeout of messages that are hidden by the test's clock.
const REAL_VISIBILITY_TIMEOUT_SECS: i32 = 36_000;
/// Visibility timeout of a received message (the template's `VisibilityTimeout`).
const VISIBILITY_TIMEOUT: SignedDuration = SignedDuration::from_secs(360);
/// SQS' deduplication interval of FIFO queues.
const DEDUPLICATION_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
/// Queue and dead-letter queue of each direction.
const DIRECTIONS: [(&str, &str); 2] = [("ClayQueue", "ClayDeadLetters"), ("LoopsQueue", "LoopsDeadLetters")];

/// A stack of its own.
#[derive(Debug)]
pub struct AwsHarness {
    clock: Arc<ManualClock>,
    stack: Stack,
    sqs: Client,
    services: Services,
    queue: TestClockQueue,
    intake: ContactLedger,
    webhook_usage: BatchedWebhookLedger,
    accounts: Ledger,
    /// The messages that were received: their newest receipts, and when they can be received again.
    hidden_messages: BTreeMap<String, HiddenMessage>,
    /// How often every message seems to have been received.
    pub receive_count: Option<u32>,
}

#[derive(Debug, Clone)]
struct HiddenMessage {
    queue_url: String,
    receipt: String,
    visible_at: Timestamp,
}

/// The queue to Clay, whose deduplication interval follows the test's clock.
#[derive(Debug)]
struct TestClockQueue {
    queue: SqsQueue,
    clock: Arc<ManualClock>,
    sent: Mutex<Vec<(Delivery, Timestamp)>>,
}

impl Queue for TestClockQueue {
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        let now = self.clock.now();
        let dedup_expired = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let is_same = |known: &Delivery| known.id == delivery.id && known.body == delivery.body;
            let last_sent_at = sent.iter().rev().find(|(known, _)| is_same(known)).map(|(_, at)| *at);
            sent.push((delivery.clone(), now));
            last_sent_at.is_some_and(|at| now.duration_since(at) >= DEDUPLICATION_INTERVAL)
        };
        if !dedup_expired {
            return self.queue.enqueue(delivery).await;
        }
        let sent = self.queue.send(delivery, &self.clock.new_id()).await;
        sent.map(|()| Enqueued::New).map_err(|failed| failed.error)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        self.queue.dead_letter(delivery, reason).await
    }
}

impl AwsHarness {
    /// What a function sees of the account.
    fn clients_for(&self, function: &str) -> AwsClients {
        stack::clients_at(&self.services.url(), function)
    }

    fn ledger(&self, clients: &AwsClients) -> Ledger {
        Ledger::new(LedgerTable::new(clients.dynamodb(), self.stack.table().to_owned()))
    }

    fn queue_for(&self, clients: &AwsClients, direction: usize) -> SqsQueue {
        let (queue, dead_letter_queue) = DIRECTIONS[direction];
        SqsQueue::new(
            clients.clone(),
            self.stack.queue(queue).to_owned(),
            self.stack.queue(dead_letter_queue).to_owned(),
        )
    }
}

impl BatchHarness for AwsHarness {
    async fn process_clay_batch(&mut self, destination: &ScriptedDestination, crash_point: Option<CrashPoint>) -> bool {
        let clients = self.clients_for("clay-delivery");
        let (ledger, queue) = (self.ledger(&clients), self.queue_for(&clients, 0));
        let (deliverer, clock) = (destination.clone(), Arc::clone(&self.clock));
        let worker = QueueWorker { deliverer, ledger, order: QueueOrderOnly, queue, clock };
        self.process_batch(0, &worker, destination, crash_point).await
    }

    async fn process_loops_batch(&mut self, destination: &ScriptedDestination) -> bool {
        let clients = self.clients_for("loops-delivery");
        let (ledger, queue) = (self.ledger(&clients), self.queue_for(&clients, 1));
        let order = ContactLedger::new(queue.clone(), ledger.clone(), Arc::<ManualClock>::clone(&self.clock));
        let (deliverer, clock) = (destination.clone(), Arc::clone(&self.clock));
        let worker = QueueWorker { deliverer, ledger, order, queue, clock };
        self.process_batch(1, &worker, destination, None).await
    }
}

impl AwsHarness {
    /// Hands one batch to a worker, as Lambda does; false where there is none.
    async fn process_batch<O: ContactOrder>(
        &mut self,
        direction: usize,
        worker: &QueueWorker<ScriptedDestination, O>,
        destination: &ScriptedDestination,
        crash_point: Option<CrashPoint>,
    ) -> bool {
        let url = self.stack.queue(DIRECTIONS[direction].0).to_owned();
        self.release_due_messages(&url).await;
        let messages = receive(&self.sqs, &url, REAL_VISIBILITY_TIMEOUT_SECS).await;
        if messages.is_empty() {
            return false;
        }
        let visible_at = self.clock.now().checked_add(VISIBILITY_TIMEOUT).unwrap_or_default();
        for message in &messages {
            let receipt = message.receipt_handle.clone().unwrap_or_default();
            let hidden = HiddenMessage { queue_url: url.clone(), receipt, visible_at };
            self.hidden_messages.insert(message.message_id.clone().unwrap_or_default(), hidden);
        }
        let mut records: Vec<Value> = messages.iter().map(to_lambda_record).collect();
        if let Some(receive_count) = self.receive_count {
            for record in &mut records {
                record["attributes"]["ApproximateReceiveCount"] = receive_count.to_string().into();
            }
        }
        let event = serde_json::from_value(json!({"Records": records})).unwrap_or_else(|error| panic!("{error}"));
        let deadline = Instant::now() + Duration::from_secs(60);
        let response = tokio::select! {
            response = batch::process_batch(worker, event, deadline) => response,
            () = destination.wait_until_hung() => return true,
        };
        if crash_point == Some(CrashPoint::AfterRecord) {
            return true;
        }
        let failed_ids: Vec<&str> =
            response.batch_item_failures.iter().map(|each| each.item_identifier.as_str()).collect();
        for message in &messages {
            let id = message.message_id.as_deref().unwrap_or_default();
            if !failed_ids.contains(&id) {
                let receipt = message.receipt_handle.clone().unwrap_or_default();
                let deleted = self.sqs.delete_message().queue_url(&url).receipt_handle(receipt).send().await;
                deleted.unwrap_or_else(|error| panic!("{error:?}"));
                self.hidden_messages.remove(id);
            }
        }
        self.apply_visibility_changes().await;
        true
    }

    /// Applies the visibility timeouts that a worker has set to the test's clock.
    async fn apply_visibility_changes(&mut self) {
        let now = self.clock.now();
        for (receipt, seconds) in self.services.take_visibility_changes() {
            let Some(hidden) = self.hidden_messages.values_mut().find(|hidden| hidden.receipt == receipt) else {
                continue;
            };
            let wait = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            hidden.visible_at = now.checked_add(wait).unwrap_or(now);
            let (queue, seconds) =
                (hidden.queue_url.clone(), if seconds == 0 { 0 } else { REAL_VISIBILITY_TIMEOUT_SECS });
            self.change_visibility(&queue, &receipt, seconds).await;
        }
    }

    async fn release_due_messages(&self, url: &str) {
        let now = self.clock.now();
        for hidden in self.hidden_messages.values().filter(|hidden| hidden.queue_url == url && hidden.visible_at <= now)
        {
            self.change_visibility(url, &hidden.receipt, 0).await;
        }
    }

    async fn change_visibility(&self, url: &str, receipt: &str, seconds: i32) {
        let change = self.sqs.change_message_visibility().queue_url(url).receipt_handle(receipt);
        let changed = change.visibility_timeout(seconds).send().await;
        // A message that became visible meanwhile is not in flight any more.
        let no_longer_in_flight = changed.as_ref().is_err_and(|error| {
            error.as_service_error().is_some_and(ChangeMessageVisibilityError::is_message_not_inflight)
        });
        assert!(no_longer_in_flight || changed.is_ok(), "{changed:?}");
    }
}

/// Converts a ledger item.
pub(super) fn snapshot_from_item(item: &Item) -> Option<DeliverySnapshot> {
    let string_attr = |name: &str| item.get(name)?.as_s().ok().cloned();
    let number_attr = |name: &str| item.get(name)?.as_n().ok()?.parse::<i64>().ok();
    let time_attr = |name: &str| Timestamp::from_millisecond(number_attr(name)?).ok();
    let state = match string_attr("state")?.as_str() {
        "queued" => "waiting".to_owned(),
        "delivered" => "delivered".to_owned(),
        other => other.to_owned(),
    };
    let status = number_attr("last_status").and_then(|status| u16::try_from(status).ok()).filter(|status| *status > 0);
    Some(DeliverySnapshot {
        state,
        attempts: number_attr("attempts").and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or_default(),
        reason: string_attr("reason").map(|reason| (reason, status)),
        first_attempt_at: time_attr("first_attempt_at"),
        last_attempt_at: time_attr("last_attempt_at"),
        failures: known_counts(item),
    })
}

async fn receive(sqs: &Client, url: &str, visibility_timeout: i32) -> Vec<Message> {
    let received = sqs
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .visibility_timeout(visibility_timeout)
        .send()
        .await;
    received.unwrap_or_else(|error| panic!("{error:?}")).messages.unwrap_or_default()
}

impl StoreHarness for AwsHarness {
    const RELEASES_EARLY: bool = false;

    async fn new() -> Self {
        let (stack, clock) = (Stack::create().await, Arc::new(ManualClock::default()));
        let services = Services::start(stack::endpoint(), stack.description(), Arc::default()).await;
        let sqs = stack.clients().sqs();
        let queue_and_ledger = |function: &str, (queue, dead_letter_queue): (&str, &str)| {
            let clients = stack::clients_at(&services.url(), function);
            let ledger = Ledger::new(LedgerTable::new(clients.dynamodb(), stack.table().to_owned()));
            let (queue, dead_letter_url) = (stack.queue(queue).to_owned(), stack.queue(dead_letter_queue).to_owned());
            (SqsQueue::new(clients, queue, dead_letter_url), ledger)
        };
        let (queue, _) = queue_and_ledger("loops-to-clay", DIRECTIONS[0]);
        let queue = TestClockQueue { queue, clock: Arc::clone(&clock), sent: Mutex::default() };
        let (loops_queue, ledger) = queue_and_ledger("clay-to-loops-event", DIRECTIONS[1]);
        let intake = ContactLedger::new(loops_queue, ledger, Arc::<ManualClock>::clone(&clock));
        let worker_table = stack::clients_at(&services.url(), "clay-delivery").dynamodb();
        let worker_table = LedgerTable::new(worker_table, stack.table().to_owned());
        let webhook_usage = BatchedWebhookLedger::new(worker_table);
        let (_, accounts) = queue_and_ledger("loops-delivery", DIRECTIONS[1]);
        let hidden_messages = BTreeMap::new();
        Self {
            clock,
            stack,
            sqs,
            services,
            queue,
            intake,
            webhook_usage,
            accounts,
            hidden_messages,
            receive_count: None,
        }
    }

    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.queue
    }

    fn intake(&self) -> &impl RowIntake {
        &self.intake
    }

    fn accounts(&self) -> &impl AccountLedger {
        &self.accounts
    }

    fn statuses(&self) -> &impl DeliveryStatusSource {
        &self.accounts
    }

    fn webhook_usage(&self) -> &impl WebhookLedger {
        &self.webhook_usage
    }

    async fn work(&mut self, destination: &ScriptedDestination) {
        drain_batches(self, destination).await;
    }

    async fn crash_during_work(&mut self, destination: &ScriptedDestination, crash_point: CrashPoint) {
        crash_in_batch(self, destination, crash_point).await;
    }

    async fn advance(&mut self, duration: SignedDuration) {
        self.clock.advance(duration);
        // What DynamoDB does by itself.
        let (dynamodb, table, now) = (self.stack.clients().dynamodb(), self.stack.table(), self.clock.now());
        let items = dynamodb.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        for item in items.collect::<Result<Vec<_>, _>>().await.unwrap_or_else(|error| panic!("{error:?}")) {
            let expires_at = item.get("expires_at").and_then(|at| at.as_n().ok()?.parse::<i64>().ok());
            if expires_at.is_some_and(|at| at <= now.as_second()) {
                let delete = dynamodb.delete_item().table_name(table).key("pk", item["pk"].clone());
                delete.send().await.unwrap_or_else(|error| panic!("{error:?}"));
            }
        }
    }

    async fn snapshot(&self, id: &DeliveryId) -> Option<DeliverySnapshot> {
        let get = self.stack.clients().dynamodb().get_item().table_name(self.stack.table()).consistent_read(true);
        let output = get.key("pk", AttributeValue::S(format!("delivery#{id}"))).send().await;
        snapshot_from_item(&output.unwrap_or_else(|error| panic!("{error:?}")).item?)
    }

    async fn dead_letters(&self) -> Vec<DeadLetterSnapshot> {
        let mut snapshots = Vec::new();
        for (_, dead_letter_queue) in DIRECTIONS {
            for message in receive(&self.sqs, self.stack.queue(dead_letter_queue), 0).await {
                snapshots.push(dead_letter_from_message(message.body.as_deref().unwrap_or_default(), |name| {
                    message.message_attributes.as_ref()?.get(name)?.string_value.clone()
                }));
            }
        }
        snapshots
    }

    async fn redrive(&mut self, id: &DeliveryId) {
        for (queue, dead_letter_queue) in DIRECTIONS {
            let dead_letter_url = self.stack.queue(dead_letter_queue);
            for message in receive(&self.sqs, dead_letter_url, 0).await {
                let body = message.body.clone().unwrap_or_default();
                let Some(delivery) = message::decode(&body).ok().filter(|delivery| delivery.id == *id) else {
                    continue;
                };
                let send = self.sqs.send_message().queue_url(self.stack.queue(queue)).message_body(body);
                // As in SQS' own redrive: a new message with the dead letter's attributes.
                let send = send.set_message_attributes(message.message_attributes.clone());
                let send = send.message_group_id(delivery.contact.as_str());
                let sent = send.message_deduplication_id(self.clock.new_id()).send().await;
                sent.unwrap_or_else(|error| panic!("{error:?}"));
                let receipt = message.receipt_handle.unwrap_or_default();
                let deleted = self.sqs.delete_message().queue_url(dead_letter_url).receipt_handle(receipt).send().await;
                deleted.unwrap_or_else(|error| panic!("{error:?}"));
                return;
            }
        }
        panic!("{id} is no dead letter");
    }

    /// Waits until their leases have ended.
    async fn kill_callers(&mut self) {
        self.advance(SignedDuration::from_secs(61)).await;
    }
}

impl AwsHarness {
    /// Puts the message of a row into its queue once more.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub async fn resend(&self, delivery: &Delivery) {
        let queue = self.queue_for(&self.clients_for("clay-to-loops-event"), 1);
        queue.send(delivery, &self.clock.new_id()).await.unwrap_or_else(|error| panic!("{error:?}"));
    }
}
