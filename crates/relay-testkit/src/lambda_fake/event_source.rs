//! The event source mapping: polls a queue, invokes a function with batches, and deletes the messages that did not
//! fail.
//!
//! Behaviour as in AWS' page "Using Lambda with Amazon SQS", with partial batch responses. A message that is not
//! deleted becomes visible again after its visibility timeout; the queue moves it to the dead-letter queue after its
//! maximum of receives.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::lambda_fake::function::Function;
use crate::lambda_fake::operator;
use crate::lambda_fake::sandbox::InvokeError;

/// Interval between polls of an empty queue. AWS long-polls; here, senders also notify the poller.
const POLL_INTERVAL: Duration = Duration::from_millis(400);

/// A running mapping.
#[derive(Debug)]
pub struct EventSource {
    poller: JoinHandle<()>,
    stopped: Arc<AtomicBool>,
    nudge: Arc<Notify>,
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

/// A mapping of the template.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Its id.
    pub id: String,
    /// The queue.
    pub queue: String,
    /// The most messages of a batch.
    pub batch_size: i32,
    /// How many batches are worked on at once.
    pub concurrency: usize,
    /// Whether the function reports the failed messages of a batch.
    pub reports_failures: bool,
}

/// A message in a function's hands.
#[derive(Debug, Clone)]
struct MessageInProgress {
    queue: String,
    body: String,
}

/// Messages that were received and not deleted: hidden until their visibility timeout ends.
#[derive(Debug, Default)]
pub struct InFlightMessages {
    receipts: Mutex<Vec<(String, String)>>,
    /// What a function is working on, by its receipt.
    in_progress: Mutex<BTreeMap<String, MessageInProgress>>,
    /// What functions were working on when their time was over and they were ended.
    timed_out: Mutex<Vec<MessageInProgress>>,
    /// The message of each receipt, and the newest receipt of each message: in a FIFO queue only that one counts.
    messages: Mutex<HashMap<String, String>>,
    newest: Mutex<HashMap<String, String>>,
    /// Held while messages are received, and while idle ones are made visible, so that a just received message is not
    /// idle.
    receive_lock: tokio::sync::Mutex<()>,
    drop_responses: AtomicBool,
    respect_disabled_mappings: AtomicBool,
}

impl InFlightMessages {
    /// Sets whether the functions' responses are lost, as when Lambda itself fails.
    pub fn drop_responses(&self, enabled: bool) {
        self.drop_responses.store(enabled, Ordering::Relaxed);
    }

    /// Makes mappings that are disabled in the emulator stop polling. Off by default, because it costs a call for each
    /// poll.
    pub fn respect_disabled_mappings(&self) {
        self.respect_disabled_mappings.store(true, Ordering::Relaxed);
    }

    /// Returns whether a message has been received again since it had this receipt.
    #[must_use]
    pub fn is_stale(&self, receipt: &str) -> bool {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        messages.get(receipt).and_then(|message| newest.get(message)).is_some_and(|newest| newest != receipt)
    }

    /// Receives nothing until the returned guard is dropped, so that what is sent meanwhile comes as one batch.
    pub async fn pause_polling(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.receive_lock.lock().await
    }

    fn record_received(&self, queue: &str, message: &Message) {
        let (Some(id), Some(receipt)) = (message.message_id.clone(), message.receipt_handle.clone()) else { return };
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).insert(receipt.clone(), id.clone());
        let previous_receipt = self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(id, receipt.clone());
        let mut hidden = self.lock();
        hidden.retain(|(_, known)| Some(known) != previous_receipt.as_ref());
        hidden.push((queue.to_owned(), receipt));
    }

    /// Ends the visibility timeout of all messages.
    pub async fn make_all_visible(&self, client: &Client) {
        let hidden = std::mem::take(&mut *self.lock());
        Self::make_visible(hidden, client).await;
    }

    /// Ends the visibility timeout of the messages that no function is processing.
    pub async fn make_idle_visible(&self, client: &Client) {
        let _receive_guard = self.receive_lock.lock().await;
        let idle = {
            let in_progress = self.in_progress();
            let mut hidden = self.lock();
            let (busy, idle) = hidden.drain(..).partition(|(_, receipt)| in_progress.contains_key(receipt));
            *hidden = busy;
            idle
        };
        Self::make_visible(idle, client).await;
    }

    /// How many messages of a queue a function is working on.
    #[must_use]
    pub fn in_progress_count(&self, queue: &str) -> usize {
        self.bodies_in_progress(queue).len()
    }

    /// The bodies of the messages of a queue that a function is working on.
    #[must_use]
    pub fn bodies_in_progress(&self, queue: &str) -> Vec<String> {
        bodies(self.in_progress().values(), queue)
    }

    /// The bodies of the messages of a queue that a function was working on when its time was over and it was ended.
    #[must_use]
    pub fn bodies_timed_out(&self, queue: &str) -> Vec<String> {
        bodies(self.timed_out.lock().unwrap_or_else(PoisonError::into_inner).iter(), queue)
    }

    fn record_timed_out(&self, messages: &[Message]) {
        let in_progress = self.in_progress();
        let timed_out =
            messages.iter().filter_map(|message| in_progress.get(message.receipt_handle.as_ref()?).cloned());
        self.timed_out.lock().unwrap_or_else(PoisonError::into_inner).extend(timed_out);
    }

    async fn make_visible(receipts: Vec<(String, String)>, client: &Client) {
        for (queue, receipt) in receipts {
            // A message that was received again has another receipt.
            let _ = client
                .change_message_visibility()
                .queue_url(queue)
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .send()
                .await;
        }
    }

    fn in_progress(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, MessageInProgress>> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bodies<'a>(messages: impl Iterator<Item = &'a MessageInProgress>, queue: &str) -> Vec<String> {
    messages.filter(|work| work.queue == queue).map(|work| work.body.clone()).collect()
}

#[derive(Debug, Clone)]
struct Poller {
    client: Client,
    mapping: Mapping,
    function: Arc<Function>,
    in_flight: Arc<InFlightMessages>,
    nudge: Arc<Notify>,
    stopped: Arc<AtomicBool>,
}

impl EventSource {
    /// Starts polling; `nudge` notifies it of possible messages.
    #[must_use]
    pub fn start(
        client: Client,
        mapping: Mapping,
        function: Arc<Function>,
        in_flight: Arc<InFlightMessages>,
        nudge: Arc<Notify>,
    ) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let poller =
            Poller { client, mapping, function, in_flight, nudge: Arc::clone(&nudge), stopped: Arc::clone(&stopped) };
        Self { poller: tokio::spawn(poller.run()), stopped, nudge }
    }

    /// Stops polling, after the received messages have been processed.
    pub async fn stop(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.nudge.notify_waiters();
        let _ = (&mut self.poller).await;
    }
}

impl Poller {
    async fn run(self) {
        let permits = Arc::new(Semaphore::new(self.mapping.concurrency));
        // The batches end with the poller.
        let mut batches = JoinSet::new();
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            let messages = if self.is_enabled().await { self.receive().await } else { Vec::new() };
            if messages.is_empty() {
                drop(permit);
                let _ = tokio::time::timeout(POLL_INTERVAL, self.nudge.notified()).await;
                continue;
            }
            let poller = self.clone();
            batches.spawn(async move {
                poller.process_batch(&messages).await;
                drop(permit);
                poller.nudge.notify_waiters();
            });
            while batches.try_join_next().is_some() {}
        }
        batches.join_all().await;
    }

    async fn is_enabled(&self) -> bool {
        if !self.in_flight.respect_disabled_mappings.load(Ordering::Relaxed) {
            return true;
        }
        let client = aws_sdk_lambda::Client::new(&operator::sdk_config());
        let mapping = client.get_event_source_mapping().uuid(&self.mapping.id).send().await;
        mapping.is_ok_and(|mapping| mapping.state() != Some("Disabled"))
    }

    async fn receive(&self) -> Vec<Message> {
        let _receive_guard = self.in_flight.receive_lock.lock().await;
        let received = self
            .client
            .receive_message()
            .queue_url(&self.mapping.queue)
            .max_number_of_messages(self.mapping.batch_size)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .wait_time_seconds(0)
            .send()
            .await;
        let messages = received.map(|received| received.messages.unwrap_or_default()).unwrap_or_default();
        let in_progress = messages.iter().filter_map(|message| {
            let in_progress =
                MessageInProgress { queue: self.mapping.queue.clone(), body: message.body.clone().unwrap_or_default() };
            Some((message.receipt_handle.clone()?, in_progress))
        });
        self.in_flight.in_progress().extend(in_progress);
        messages.iter().for_each(|message| self.in_flight.record_received(&self.mapping.queue, message));
        messages
    }

    async fn process_batch(&self, messages: &[Message]) {
        self.invoke_and_delete(messages).await;
        let receipts: Vec<_> = messages.iter().filter_map(|message| message.receipt_handle.as_ref()).collect();
        self.in_flight.in_progress().retain(|receipt, _| !receipts.contains(&receipt));
    }

    async fn invoke_and_delete(&self, messages: &[Message]) {
        let event = json!({"Records": messages.iter().map(to_lambda_record).collect::<Vec<_>>()});
        // A function that fails deletes nothing: every message becomes visible again.
        let response = match self.function.invoke(event.to_string().into_bytes()).await {
            Ok(response) => response,
            Err(InvokeError::TimedOut) => return self.in_flight.record_timed_out(messages),
            Err(InvokeError::FunctionError(_) | InvokeError::Exited) => return,
        };
        if self.in_flight.drop_responses.load(Ordering::Relaxed) {
            return;
        }
        let failed_ids = if self.mapping.reports_failures { parse_batch_failures(&response) } else { Some(Vec::new()) };
        // An unreadable response fails the whole batch.
        let Some(failed_ids) = failed_ids else { return };
        for message in messages {
            if message.message_id.as_ref().is_some_and(|id| !failed_ids.contains(id)) {
                let receipt = message.receipt_handle.clone().unwrap_or_default();
                let delete = self.client.delete_message().queue_url(&self.mapping.queue);
                if delete.receipt_handle(&receipt).send().await.is_ok() {
                    self.in_flight.lock().retain(|(_, hidden)| *hidden != receipt);
                }
            }
        }
    }
}

/// A message as Lambda hands it to a function.
pub(crate) fn to_lambda_record(message: &Message) -> Value {
    let attributes: Map<String, Value> = message
        .attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str().to_owned(), Value::from(value.as_str())))
        .collect();
    let message_attributes: Map<String, Value> = message
        .message_attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), json!({"dataType": value.data_type, "stringValue": value.string_value})))
        .collect();
    json!({
        "messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body,
        "attributes": attributes, "messageAttributes": message_attributes, "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:queue.fifo",
        "awsRegion": "eu-west-1",
    })
}

fn parse_batch_failures(response: &[u8]) -> Option<Vec<String>> {
    let response: Value = serde_json::from_slice(response).ok()?;
    let failures = response["batchItemFailures"].as_array()?;
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().map(str::to_owned)).collect()
}
