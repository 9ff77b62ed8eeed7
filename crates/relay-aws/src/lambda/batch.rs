//! A batch of queue messages: groups concurrently, the messages of a group in their order.
//!
//! See docs/adr/0006-sqs-fifo.md.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use relay::delivery::Deliver;
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::lambda::attempt::MessageAction;
use crate::lambda::contact_order::ContactOrder;
use crate::lambda::time_budget::TimeBudget;
use crate::lambda::worker::QueueWorker;
use crate::sqs::receive_limits;

/// Delay of a message whose contact is busy.
const RETRY_SOON: Duration = Duration::from_secs(2);
/// Longest visibility timeout that SQS takes.
const MAX_VISIBILITY_SECS: i32 = 12 * 60 * 60;

/// Processes a batch until the deadline is near and returns which of its messages come back.
pub async fn process_batch<D, O>(worker: &QueueWorker<D, O>, event: SqsEvent, deadline: Instant) -> SqsBatchResponse
where
    D: Deliver,
    O: ContactOrder,
{
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for message in event.records {
        let group = message.attributes.get("MessageGroupId").cloned().unwrap_or_default();
        groups.entry(group).or_default().push(message);
    }
    let batch = Batch { worker, budget: TimeBudget::new(deadline) };
    let groups = groups.iter().map(|(group, messages)| batch.process_group(group, messages));
    let mut response = SqsBatchResponse::default();
    let failed_ids = join_all(groups).await;
    if tokio::time::timeout_at(batch.budget.flush_deadline(), worker.deliverer.end_batch()).await.is_err() {
        warn!("what a batch has counted is not stored yet");
    }
    for id in failed_ids.into_iter().flatten() {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        response.batch_item_failures.push(failure);
    }
    response
}

struct Batch<'a, D, O> {
    worker: &'a QueueWorker<D, O>,
    budget: TimeBudget,
}

impl<D: Deliver, O: ContactOrder> Batch<'_, D, O> {
    /// Processes a group and returns the ids of the messages that come back: the first that has not ended, and all behind it.
    async fn process_group(&self, group: &str, messages: &[SqsMessage]) -> Vec<String> {
        for (index, message) in messages.iter().enumerate() {
            let action = self.process_with_deadline(group, message).await;
            let Some(delay) = self.visibility_delay(action, message) else { continue };
            let (_, later_messages) = messages.split_at(index + 1);
            // SQS blocks a group while any of its messages is in flight. The later messages wait for the first.
            join_all(later_messages.iter().map(|message| self.change_visibility(message, Duration::ZERO))).await;
            // All of them are received together with the first.
            let max_receive_count =
                messages.iter().skip(index).map(receive_limits::receive_count).max().unwrap_or_default();
            self.change_visibility(message, delay.max(receive_limits::min_delay(max_receive_count))).await;
            return messages.iter().skip(index).filter_map(|message| message.message_id.clone()).collect();
        }
        Vec::new()
    }

    async fn process_with_deadline(&self, group: &str, message: &SqsMessage) -> MessageAction {
        if !self.budget.has_time_for_attempt() {
            return MessageAction::RetryAfter(Duration::ZERO);
        }
        // If Lambda times the sandbox out, every group of the batch is lost.
        let process = self.worker.process(group, message, self.budget);
        tokio::time::timeout_at(self.budget.response_deadline(), process).await.unwrap_or_else(|_| {
            error!(message.id = message.message_id, "a delivery takes too long: it comes back");
            MessageAction::BACKOFF
        })
    }

    /// Returns how long a message stays invisible, or nothing if it is deleted.
    fn visibility_delay(&self, action: MessageAction, message: &SqsMessage) -> Option<Duration> {
        let clock = &self.worker.clock;
        match action {
            MessageAction::Delete => None,
            MessageAction::RetryAt(at) => Some(Duration::try_from(at.duration_since(clock.now())).unwrap_or_default()),
            MessageAction::RetryAfter(delay) => Some(delay),
            MessageAction::RetrySoon => Some(RETRY_SOON),
            MessageAction::Backoff { at_least } => {
                let backoff = retry::retry_delay(receive_limits::receive_count(message), None, clock.random());
                Some(backoff.max(at_least))
            }
        }
    }

    async fn change_visibility(&self, message: &SqsMessage, delay: Duration) {
        let Some(receipt) = &message.receipt_handle else { return };
        // SQS takes whole seconds, and a message must not come back before its time.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let seconds = i32::try_from(seconds).unwrap_or(MAX_VISIBILITY_SECS).min(MAX_VISIBILITY_SECS);
        if let Err(error) = self.worker.queue.change_visibility(receipt, seconds).await {
            // The message comes back when the queue's own visibility timeout ends.
            warn!(%error, "a message could not be put back in time");
        }
    }
}
