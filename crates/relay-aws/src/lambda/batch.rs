//! A batch of SQS messages: groups side by side, the messages of a group in their order.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use relay::ports::clock::Clock;
use relay::ports::queue::Deliver;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::lambda::worker::{ContactOrder, MIN_ATTEMPT_TIME, MessageAction, QueueWorker, RESPONSE_RESERVE};
use crate::sqs::receive_limits;

/// The longest visibility timeout that SQS allows (SQS Developer Guide, "Visibility timeout").
const MAX_VISIBILITY_SECS: i32 = 12 * 60 * 60;

/// Processes a batch until the function's time is nearly up, and returns which messages SQS is to deliver again.
pub async fn process_batch<D, O, C>(
    worker: &QueueWorker<D, O, C>,
    event: SqsEvent,
    deadline: Instant,
) -> SqsBatchResponse
where
    D: Deliver,
    O: ContactOrder,
    C: Clock,
{
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for message in event.records {
        let group = message.attributes.get("MessageGroupId").cloned().unwrap_or_default();
        groups.entry(group).or_default().push(message);
    }
    let batch = Batch { worker, deadline };
    let groups = groups.iter().map(|(group, messages)| batch.process_group(group, messages));
    let mut response = SqsBatchResponse::default();
    for id in join_all(groups).await.into_iter().flatten() {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        response.batch_item_failures.push(failure);
    }
    response
}

struct Batch<'a, D, O, C> {
    worker: &'a QueueWorker<D, O, C>,
    deadline: Instant,
}

impl<D: Deliver, O: ContactOrder, C: Clock> Batch<'_, D, O, C> {
    /// Returns the ids of the messages that come back: the first one that is not done, and all behind it.
    async fn process_group(&self, group: &str, messages: &[SqsMessage]) -> Vec<String> {
        for (index, message) in messages.iter().enumerate() {
            let MessageAction::RetryAfter(delay) = self.process_with_deadline(group, message).await else { continue };
            let (_, later_messages) = messages.split_at(index + 1);
            // SQS delivers nothing of a group while one of its messages is hidden. So the later messages are visible at once:
            // they wait for the first one only.
            join_all(later_messages.iter().map(|message| self.change_visibility(message, Duration::ZERO))).await;
            // All of them are received together with the first one.
            let receive_count =
                messages.iter().skip(index).map(receive_limits::receive_count).max().unwrap_or_default();
            self.change_visibility(message, delay.max(receive_limits::min_delay(receive_count))).await;
            return messages.iter().skip(index).filter_map(|message| message.message_id.clone()).collect();
        }
        Vec::new()
    }

    async fn process_with_deadline(&self, group: &str, message: &SqsMessage) -> MessageAction {
        if self.deadline.saturating_duration_since(Instant::now()) < MIN_ATTEMPT_TIME {
            return MessageAction::RetryAfter(Duration::ZERO);
        }
        // When Lambda ends the sandbox at its timeout, the results of all groups are lost. So this stops earlier.
        let soft_deadline = self.deadline.checked_sub(RESPONSE_RESERVE).unwrap_or(self.deadline);
        let action = tokio::time::timeout_at(soft_deadline, self.worker.process(group, message, soft_deadline)).await;
        action.unwrap_or_else(|_| {
            error!(message.id = message.message_id, "a delivery takes too long: it comes back");
            self.worker.retry_with_backoff(message)
        })
    }

    async fn change_visibility(&self, message: &SqsMessage, delay: Duration) {
        let Some(receipt) = &message.receipt_handle else { return };
        // SQS counts whole seconds. Rounding up keeps the destination's Retry-After.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let seconds = i32::try_from(seconds).unwrap_or(MAX_VISIBILITY_SECS).min(MAX_VISIBILITY_SECS);
        if let Err(error) = self.worker.queue.change_visibility(receipt, seconds).await {
            // The message comes back at the end of the queue's own visibility timeout: later, but it comes.
            warn!(%error, "a message could not be put back in time");
        }
    }
}
