//! A FIFO queue, in which each contact is a message group, and its dead-letter queue.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use relay::ports::queue::{Enqueued, Queue, StoreError};
use relay_core::delivery::{BodyHash, Delivery, Reason};

use crate::sdk::clients::AwsClients;
use crate::sdk::error::{describe, was_not_applied};
use crate::sqs::dead_letter::{DeadLetterAttributes, FailureInfo};
use crate::sqs::message;

/// A failed send.
#[derive(Debug)]
pub struct SendError {
    /// Cause.
    pub error: StoreError,
    /// Whether the message may be in the queue all the same, because only the response was lost.
    pub maybe_enqueued: bool,
}

/// A queue and its dead-letter queue.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    clients: AwsClients,
    /// Created on first use: most functions write to a queue only after a failure.
    client: Arc<OnceLock<Client>>,
    url: String,
    dead_letter_url: String,
}

impl SqsQueue {
    /// Creates the queue at this URL with its dead-letter queue.
    pub fn new(clients: AwsClients, url: String, dead_letter_url: String) -> Self {
        Self { clients, client: Arc::default(), url, dead_letter_url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Creates the client now, for a function that enqueues every event.
    pub(crate) fn connect_eagerly(self) -> Self {
        self.client();
        self
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.clients.sqs())
    }

    /// Sends a delivery. SQS ignores a second send with the same `dedup_id` for five minutes.
    ///
    /// # Errors
    /// When SQS rejects it or does not respond.
    pub async fn send(&self, delivery: &Delivery, dedup_id: &str) -> Result<(), SendError> {
        let message = encode(delivery).map_err(|error| SendError { error, maybe_enqueued: false })?;
        let result = self
            .client()
            .send_message()
            .queue_url(&self.url)
            .message_group_id(delivery.contact.as_str())
            .message_deduplication_id(dedup_id)
            .message_body(message)
            .send()
            .await;
        result.map(drop).map_err(|error| SendError {
            maybe_enqueued: !was_not_applied(&error),
            error: StoreError::new(describe(&error)),
        })
    }

    pub(crate) async fn dead_letter_message(
        &self,
        message: &str,
        group: &str,
        dedup_id: &str,
        attributes: DeadLetterAttributes<'_>,
    ) -> Result<(), StoreError> {
        let result = self
            .client()
            .send_message()
            .queue_url(&self.dead_letter_url)
            .message_group_id(group)
            .message_deduplication_id(dedup_id)
            .set_message_attributes(Some(attributes.to_message_attributes()?))
            .message_body(message)
            .send()
            .await;
        result.map(drop).map_err(|error| StoreError::new(describe(&error)))
    }

    /// Sends a delivery to the dead-letter queue. SQS ignores a second dead letter with the same `dedup_id` for five minutes.
    pub(crate) async fn dead_letter_delivery(
        &self,
        delivery: &Delivery,
        dedup_id: &str,
        failure: FailureInfo,
    ) -> Result<(), StoreError> {
        let attributes = DeadLetterAttributes::from_failure(delivery, failure);
        self.dead_letter_message(&encode(delivery)?, delivery.contact.as_str(), dedup_id, attributes).await
    }

    /// Sets the visibility timeout of a received message. A message that is not in flight any more is visible already. If SQS
    /// rejects the call, the message becomes visible at the end of the queue's own visibility timeout.
    pub(crate) async fn change_visibility(&self, receipt: &str, seconds: i32) -> Result<(), StoreError> {
        let result = self
            .client()
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt)
            .visibility_timeout(seconds)
            .send()
            .await;
        match result {
            Err(error)
                if !error.as_service_error().is_some_and(ChangeMessageVisibilityError::is_message_not_inflight) =>
            {
                Err(StoreError::new(describe(&error)))
            }
            _ => Ok(()),
        }
    }
}

impl Queue for SqsQueue {
    /// Always returns [`Enqueued::New`]: the webhook function has no ledger, so the worker finds duplicates and conflicts.
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        self.send(delivery, &content_dedup_id(delivery)).await.map(|()| Enqueued::New).map_err(|error| error.error)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        // It fails on arrival, without an attempt.
        let failure = FailureInfo { reason, attempts: 0, at: delivery.received_at };
        self.dead_letter_delivery(delivery, &content_dedup_id(delivery), failure).await
    }
}

/// Returns the deduplication id of a delivery with its body. Another body under the same id has another one.
fn content_dedup_id(delivery: &Delivery) -> String {
    delivery.id.with_body_hash(&BodyHash::compute(&delivery.body)).as_str().to_owned()
}

fn encode(delivery: &Delivery) -> Result<String, StoreError> {
    message::encode(delivery).map_err(StoreError::new)
}
