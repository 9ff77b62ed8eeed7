//! The event source mapping: it polls a queue, hands batches to a function, and deletes what the function has taken.
//!
//! As AWS' page "Using Lambda with Amazon SQS" has it, partial batch responses included. What is not deleted comes back
//! when its visibility timeout is up, and the queue itself moves it to the dead letters after so many receives.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use super::function::Function;

/// A running mapping.
#[derive(Debug)]
pub struct EventSource {
    pollers: Vec<JoinHandle<()>>,
}

impl Drop for EventSource {
    fn drop(&mut self) {
        for poller in &self.pollers {
            poller.abort();
        }
    }
}

/// What the template says of a mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The queue.
    pub queue: String,
    /// The most messages of a batch.
    pub batch_size: i32,
    /// How many batches are worked on at once.
    pub concurrency: usize,
    /// Whether the function tells which messages it has not taken.
    pub reports_failures: bool,
}

impl EventSource {
    /// Starts polling.
    #[must_use]
    pub fn start(client: &Client, mapping: &Mapping, function: &Arc<Function>) -> Self {
        let pollers = (0..mapping.concurrency)
            .map(|_| tokio::spawn(poll(client.clone(), mapping.clone(), Arc::clone(function))))
            .collect();
        Self { pollers }
    }
}

async fn poll(client: Client, mapping: Mapping, function: Arc<Function>) {
    loop {
        let received = client
            .receive_message()
            .queue_url(&mapping.queue)
            .max_number_of_messages(mapping.batch_size)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .wait_time_seconds(0)
            .send()
            .await;
        let messages = received.map(|received| received.messages.unwrap_or_default()).unwrap_or_default();
        if messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let event = json!({"Records": messages.iter().map(record).collect::<Vec<_>>()});
        // A function that fails takes nothing: every message comes back.
        let Ok(answer) = function.invoke(event.to_string().into_bytes()).await else { continue };
        let failed = if mapping.reports_failures { failures(&answer) } else { Some(Vec::new()) };
        // An answer that is no answer is a failure of the whole batch.
        let Some(failed) = failed else { continue };
        for message in &messages {
            if message.message_id.as_ref().is_some_and(|id| !failed.contains(id)) {
                let receipt = message.receipt_handle.clone().unwrap_or_default();
                let _ = client.delete_message().queue_url(&mapping.queue).receipt_handle(receipt).send().await;
            }
        }
    }
}

fn record(message: &Message) -> Value {
    let attributes: Map<String, Value> = message
        .attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str().to_owned(), Value::from(value.as_str())))
        .collect();
    json!({
        "messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body,
        "attributes": attributes, "messageAttributes": {}, "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:queue.fifo",
        "awsRegion": "eu-west-1",
    })
}

fn failures(answer: &[u8]) -> Option<Vec<String>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let failures = answer["batchItemFailures"].as_array()?;
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().map(str::to_owned)).collect()
}
