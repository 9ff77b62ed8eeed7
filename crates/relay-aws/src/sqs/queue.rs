//! The FIFO queues: deliveries in groups of one contact each, and the dead letters.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use relay::ports::queue::{Queue, StoreFault, Stored};
use relay_core::delivery::{BodyHash, Delivery, Reason};

use crate::sdk::clients::Account;
use crate::sdk::error::{did_nothing, told};
use crate::sqs::dead_letter::{Death, Label};
use crate::sqs::message;

/// A sending that failed.
#[derive(Debug)]
pub struct NotSent {
    /// Why.
    pub fault: StoreFault,
    /// Whether the message may be in the queue all the same: it was stored, and the answer was lost.
    pub may_be_there: bool,
}

/// A queue and its dead letters.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    account: Account,
    /// Made when it is first used: most functions write to a queue only when something is wrong or full.
    client: Arc<OnceLock<Client>>,
    url: String,
    dead_letters: String,
}

impl SqsQueue {
    /// The queue at this URL, whose dead letters go to the other.
    #[must_use]
    pub fn new(account: Account, url: String, dead_letters: String) -> Self {
        Self { account, client: Arc::default(), url, dead_letters }
    }

    /// The same queue, ready to be written to: for a function whose every event is.
    #[must_use]
    pub fn ready(self) -> Self {
        self.client();
        self
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.account.sqs())
    }

    /// Sends a delivery. The same `token` is the same sending for five minutes.
    ///
    /// # Errors
    /// When SQS does not take it, or does not say so.
    pub async fn send(&self, delivery: &Delivery, token: &str) -> Result<(), NotSent> {
        let message = seal(delivery).map_err(|fault| NotSent { fault, may_be_there: false })?;
        let sent = self
            .client()
            .send_message()
            .queue_url(&self.url)
            .message_group_id(delivery.contact.as_str())
            .message_deduplication_id(token)
            .message_body(message)
            .send()
            .await;
        sent.map(drop).map_err(|fault| NotSent { may_be_there: !did_nothing(&fault), fault: StoreFault(told(&fault)) })
    }

    /// Sends a dead letter: a message, what is to be said of it, and by what it is known.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub(crate) async fn bury(
        &self,
        message: &str,
        group: &str,
        token: &str,
        label: Label<'_>,
    ) -> Result<(), StoreFault> {
        let sent = self
            .client()
            .send_message()
            .queue_url(&self.dead_letters)
            .message_group_id(group)
            .message_deduplication_id(token)
            .set_message_attributes(Some(label.attributes()?))
            .message_body(message)
            .send()
            .await;
        sent.map(drop).map_err(|fault| StoreFault(told(&fault)))
    }

    /// Sends a delivery to the dead letters. The same death is the same letter for five minutes.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn bury_delivery(&self, delivery: &Delivery, death: Death) -> Result<(), StoreFault> {
        self.bury_as(delivery, &death.token(delivery), death).await
    }

    async fn bury_as(&self, delivery: &Delivery, token: &str, death: Death) -> Result<(), StoreFault> {
        let message = seal(delivery)?;
        self.bury(&message, delivery.contact.as_str(), token, Label::of(delivery, death)).await
    }

    /// Lets a received message be received again after so many seconds. One that nobody holds any more, because it was
    /// freed meanwhile or its time is up, can be received already: that is as well.
    ///
    /// # Errors
    /// When SQS does not take it: the message then comes back when the queue's own time is up.
    pub async fn put_back(&self, receipt: &str, seconds: i32) -> Result<(), StoreFault> {
        let changed = self
            .client()
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt)
            .visibility_timeout(seconds)
            .send()
            .await;
        match changed {
            Err(fault)
                if fault.as_service_error().is_some_and(ChangeMessageVisibilityError::is_message_not_inflight) =>
            {
                Ok(())
            }
            changed => changed.map(drop).map_err(|fault| StoreFault(told(&fault))),
        }
    }
}

impl Queue for SqsQueue {
    /// A repeat is told from a conflict by the worker's ledger, not here: the front door writes nothing but the queue.
    async fn put(&self, delivery: &Delivery) -> Result<Stored, StoreFault> {
        self.send(delivery, &content_token(delivery)).await.map(|()| Stored::New).map_err(|failed| failed.fault)
    }

    async fn put_dead(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreFault> {
        // It dies as it comes, without an attempt.
        let death = Death { reason, attempts: 0, at: delivery.received_at };
        self.bury_as(delivery, &content_token(delivery), death).await
    }
}

/// A delivery and its body: a repeat has the same, another body under the same id has another.
fn content_token(delivery: &Delivery) -> String {
    delivery.id.of_conflict(&BodyHash::of(&delivery.body)).as_str().to_owned()
}

fn seal(delivery: &Delivery) -> Result<String, StoreFault> {
    message::seal(delivery).map_err(|fault| StoreFault(fault.to_string()))
}
