//! The FIFO queues: deliveries in groups of one contact each, and the dead letters.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use relay::ports::queue::{Enqueued, Queue, StoreError};
use relay_core::delivery::{BodyHash, Delivery, Reason};

use crate::sdk::clients::AwsClients;
use crate::sdk::error::{describe, was_not_applied};
use crate::sqs::dead_letter::{DeadLetterAttributes, FailureInfo};
use crate::sqs::message;

/// A sending that failed.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub error: StoreError,
    /// Whether the message may be in the queue all the same: it was stored, and the answer was lost.
    pub maybe_enqueued: bool,
}

/// A queue and its dead letters.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    clients: AwsClients,
    /// Made when it is first used: most functions write to a queue only when something is wrong or full.
    client: Arc<OnceLock<Client>>,
    url: String,
    dead_letter_url: String,
}

impl SqsQueue {
    /// The queue at this URL, whose dead letters go to the other.
    #[must_use]
    pub fn new(clients: AwsClients, url: String, dead_letter_url: String) -> Self {
        Self { clients, client: Arc::default(), url, dead_letter_url }
    }

    /// The same queue, ready to be written to: for a function whose every event is.
    #[must_use]
    pub fn with_client(self) -> Self {
        self.client();
        self
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.clients.sqs())
    }

    /// Sends a delivery. The same `token` is the same sending for five minutes.
    ///
    /// # Errors
    /// When SQS does not take it, or does not say so.
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
            error: StoreError(describe(&error)),
        })
    }

    /// Sends a dead letter: a message, what is to be said of it, and by what it is known.
    ///
    /// # Errors
    /// When SQS does not take it.
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
        result.map(drop).map_err(|error| StoreError(describe(&error)))
    }

    /// Sends a delivery to the dead letters. The same death is the same letter for five minutes.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn dead_letter_delivery(&self, delivery: &Delivery, failure: FailureInfo) -> Result<(), StoreError> {
        self.dead_letter_as(delivery, &failure.dedup_id(delivery), failure).await
    }

    async fn dead_letter_as(
        &self,
        delivery: &Delivery,
        dedup_id: &str,
        failure: FailureInfo,
    ) -> Result<(), StoreError> {
        let message = encode(delivery)?;
        self.dead_letter_message(
            &message,
            delivery.contact.as_str(),
            dedup_id,
            DeadLetterAttributes::from_failure(delivery, failure),
        )
        .await
    }

    /// Lets a received message be received again after so many seconds. One that nobody holds any more, because it was
    /// freed meanwhile or its time is up, can be received already: that is as well.
    ///
    /// # Errors
    /// When SQS does not take it: the message then comes back when the queue's own time is up.
    pub async fn change_visibility(&self, receipt: &str, seconds: i32) -> Result<(), StoreError> {
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
                if error.as_service_error().is_some_and(ChangeMessageVisibilityError::is_message_not_inflight) =>
            {
                Ok(())
            }
            result => result.map(drop).map_err(|error| StoreError(describe(&error))),
        }
    }
}

impl Queue for SqsQueue {
    /// A repeat is told from a conflict by the worker's ledger, not here: the front door writes nothing but the queue.
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        self.send(delivery, &content_dedup_id(delivery)).await.map(|()| Enqueued::New).map_err(|error| error.error)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        // It dies as it comes, without an attempt.
        let failure = FailureInfo { reason, attempts: 0, at: delivery.received_at };
        self.dead_letter_as(delivery, &content_dedup_id(delivery), failure).await
    }
}

/// A delivery and its body: a repeat has the same, another body under the same id has another.
fn content_dedup_id(delivery: &Delivery) -> String {
    delivery.id.conflicting(&BodyHash::compute(&delivery.body)).as_str().to_owned()
}

fn encode(delivery: &Delivery) -> Result<String, StoreError> {
    message::encode(delivery).map_err(|error| StoreError(error.to_string()))
}
