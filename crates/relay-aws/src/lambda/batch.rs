//! A batch of queue messages: groups side by side, each group in its order, and every message's fate its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::queue::StoreError;
use relay::ports::rate_limiter::{Readiness, Unavailable};
use relay_core::delivery::Delivery;
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::sqs::dead_letter::{self, DeadLetterAttributes, FailureInfo, MALFORMED};
use crate::sqs::early_release::BlockedOn;
use crate::sqs::message;
use crate::sqs::queue::SqsQueue;
use crate::sqs::receive_limits;

/// What has to be left of a function's time for another message to be begun: the turn, a call and its record.
const MIN_ATTEMPT_TIME: Duration = Duration::from_secs(30);
/// What is kept of a function's time to tell which messages come back.
const RESPONSE_RESERVE: Duration = Duration::from_secs(4);
/// What a worker leaves of that: it must have told what became of a delivery before it is broken off.
const RECORD_RESERVE: Duration = Duration::from_secs(1);
/// When a message is looked at again whose turn has not come.
const RETRY_SOON: Duration = Duration::from_secs(2);
/// The longest that SQS hides a message.
const MAX_VISIBILITY_SECS: i32 = 12 * 60 * 60;

/// What a worker makes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageAction {
    /// The far end has it. It had waited for that before: others that wait for the same may go as well.
    Delivered {
        /// What it had waited for.
        waited: Option<BlockedOn>,
    },
    /// It will never be taken.
    DeadLetter(FailureInfo),
    /// Another body is known under its id: it is kept under an id of its own.
    DeadLetterConflict(FailureInfo),
    /// It died before, and its letter is kept: nothing is left to do.
    Drop,
    /// It has not ended: the message comes back at that time, and not before.
    RetryAt(Timestamp),
    /// It has not ended: the message comes back at that time, or when another delivery gets through.
    Defer(Timestamp, BlockedOn),
    /// Its turn has not come: the message comes back in a moment.
    Later,
    /// What has to be asked or told cannot be reached: the message comes back later each time, because the queue counts
    /// how often it is received.
    Backoff,
}

impl MessageAction {
    /// Whether its delivery waits no more.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Delivered { .. } | Self::DeadLetter(_) | Self::DeadLetterConflict(_) | Self::Drop)
    }
}

/// What is known of a message besides the delivery that it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageContext {
    /// It may send what has died by then, and nothing that died later: the dead letter is a person's.
    pub redriven_until: Timestamp,
    /// Until when it is to be told what became of it.
    pub deadline: Instant,
}

impl MessageContext {
    /// Whether there is time for another attempt.
    pub(crate) fn has_time_for_attempt(&self) -> bool {
        self.deadline.saturating_duration_since(Instant::now()) + RECORD_RESERVE + RESPONSE_RESERVE >= MIN_ATTEMPT_TIME
    }
}

/// What is done with one message.
pub trait MessageWorker: Send + Sync {
    /// Works on one delivery.
    fn process(&self, delivery: &Delivery, context: MessageContext) -> impl Future<Output = MessageAction> + Send;

    /// Ends a delivery that has waited, or been received, for as long as it may.
    fn expire(&self, delivery: &Delivery, context: MessageContext) -> impl Future<Output = MessageAction> + Send;

    /// Notes that what died is among the dead letters.
    fn mark_in_dlq(&self, delivery: &Delivery, failure: FailureInfo) -> impl Future<Output = ()> + Send;

    /// Whether the far end can be tried now.
    fn readiness(&self) -> Readiness;

    /// Notes by which receipt a delivery can be shown again before its time.
    fn park(&self, delivery: &Delivery, waits_for: BlockedOn, receipt: &str) -> impl Future<Output = ()> + Send;

    /// The receipts of deliveries that may go as well, now that this one has got through.
    fn freed_by(&self, delivery: &Delivery, waited: Option<BlockedOn>) -> impl Future<Output = Vec<String>> + Send;

    /// The receipts of deliveries that may go now that a person has mended what they were held for.
    fn freed_by_mending(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Works through a batch until the function's time is nearly up, and tells which messages are to come back.
pub async fn process_batch<W, A>(
    worker: &W,
    queue: &SqsQueue,
    clock: &A,
    event: SqsEvent,
    deadline: Instant,
) -> SqsBatchResponse
where
    W: MessageWorker,
    A: Clock,
{
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for message in event.records {
        let group = message.attributes.get("MessageGroupId").cloned().unwrap_or_default();
        groups.entry(group).or_default().push(message);
    }
    let batch = Batch { worker, queue, clock, deadline };
    let groups = groups.iter().map(|(group, messages)| batch.process_group(group, messages));
    let mut response = SqsBatchResponse::default();
    for id in join_all(groups).await.into_iter().flatten() {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        response.batch_item_failures.push(failure);
    }
    response
}

struct Batch<'a, W, A> {
    worker: &'a W,
    queue: &'a SqsQueue,
    clock: &'a A,
    deadline: Instant,
}

impl<W: MessageWorker, A: Clock> Batch<'_, W, A> {
    /// The ids of the messages that come back: the first that has not ended, and all behind it.
    async fn process_group(&self, group: &str, messages: &[SqsMessage]) -> Vec<String> {
        for (index, message) in messages.iter().enumerate() {
            let Some(delay) = self.process_with_deadline(group, message).await else { continue };
            let (_, later_messages) = messages.split_at(index + 1);
            // A group is closed as long as any of its messages is hidden: those behind wait for the first, not for themselves.
            join_all(later_messages.iter().map(|message| self.change_visibility(message, Duration::ZERO))).await;
            // They are all received with the first.
            let max_receive_count =
                messages.iter().skip(index).map(receive_limits::receive_count).max().unwrap_or_default();
            self.change_visibility(message, delay.max(receive_limits::min_delay(max_receive_count))).await;
            return messages.iter().skip(index).filter_map(|message| message.message_id.clone()).collect();
        }
        Vec::new()
    }

    /// Works on one message, if there is time; how long it has to wait, if it has to come back.
    async fn process_with_deadline(&self, group: &str, message: &SqsMessage) -> Option<Duration> {
        if self.deadline.saturating_duration_since(Instant::now()) < MIN_ATTEMPT_TIME {
            return Some(Duration::ZERO);
        }
        // Whoever is ended by Lambda takes the other groups along.
        let soft_deadline = self.deadline.checked_sub(RESPONSE_RESERVE).unwrap_or(self.deadline);
        let outcome = tokio::time::timeout_at(soft_deadline, self.process_message(group, message, soft_deadline)).await;
        outcome.unwrap_or_else(|_| {
            error!(message.id = message.message_id, "a delivery takes too long: it comes back");
            Some(self.receive_backoff(message))
        })
    }

    async fn process_message(&self, group: &str, message: &SqsMessage, soft_deadline: Instant) -> Option<Duration> {
        let body = message.body.as_deref().unwrap_or_default();
        let id = message.message_id.as_deref().unwrap_or_default();
        let Ok(delivery) = message::decode(body) else {
            error!(message.id = id, "a message that is no delivery goes to the dead letters");
            let (received_at, died_at) = (receive_limits::sent_at(message), self.clock.now());
            let attributes =
                DeadLetterAttributes { reason: MALFORMED, status: None, attempts: 0, received_at, died_at };
            let sent = self.queue.dead_letter_message(body, group, id, attributes).await;
            return self.after_dead_letter(message, sent);
        };
        let receipt = message.receipt_handle.as_deref().unwrap_or_default();
        let deadline = soft_deadline.checked_sub(RECORD_RESERVE).unwrap_or(soft_deadline);
        let context = MessageContext { redriven_until: dead_letter::superseded_failures_until(message), deadline };
        if receive_limits::is_expired(message, self.clock.now()) {
            let action = self.worker.expire(&delivery, context).await;
            return self.apply(action, &delivery, message, context).await;
        }
        match self.worker.readiness() {
            // Not even begun.
            Readiness::Unavailable(Unavailable::CircuitOpen(retry_in)) => {
                self.worker.park(&delivery, BlockedOn::Destination, receipt).await;
                return Some(retry_in.max(self.receive_backoff(message)));
            }
            Readiness::Unavailable(Unavailable::Throttled(retry_in)) => return Some(retry_in),
            Readiness::Ready | Readiness::HalfOpen => {}
        }
        let action = self.worker.process(&delivery, context).await;
        self.make_visible(context, self.worker.freed_by_mending()).await;
        self.apply(action, &delivery, message, context).await
    }

    /// Does what a fate asks for; how long the message has to wait, if it has to come back.
    async fn apply(
        &self,
        action: MessageAction,
        delivery: &Delivery,
        message: &SqsMessage,
        handed: MessageContext,
    ) -> Option<Duration> {
        match action {
            MessageAction::Delivered { waited } => {
                self.make_visible(handed, self.worker.freed_by(delivery, waited)).await;
                None
            }
            MessageAction::DeadLetter(failure) => self.dead_letter(delivery, failure, message).await,
            MessageAction::DeadLetterConflict(failure) => {
                self.dead_letter(&delivery.as_conflict(), failure, message).await
            }
            MessageAction::Drop => None,
            MessageAction::Defer(at, waits_for) => {
                let receipt = message.receipt_handle.as_deref().unwrap_or_default();
                self.worker.park(delivery, waits_for, receipt).await;
                Some(self.deadline(at))
            }
            MessageAction::RetryAt(at) => Some(self.deadline(at)),
            MessageAction::Later => Some(RETRY_SOON),
            MessageAction::Backoff => Some(self.receive_backoff(message)),
        }
    }

    /// Ends the time of what is hidden and may go as well, as far as there is time for that: a delivery that is broken off for
    /// others would be sent again, and they come back by themselves.
    async fn make_visible(&self, handed: MessageContext, freed: impl Future<Output = Vec<String>>) {
        let show = async {
            let receipts = freed.await;
            // One that has come back by itself has another receipt by now.
            join_all(receipts.iter().map(|receipt| self.queue.change_visibility(receipt, 0))).await;
        };
        drop(tokio::time::timeout_at(handed.deadline + RECORD_RESERVE / 2, show).await);
    }

    async fn dead_letter(&self, delivery: &Delivery, failure: FailureInfo, message: &SqsMessage) -> Option<Duration> {
        let sent = self.queue.dead_letter_delivery(delivery, failure).await;
        if sent.is_ok() {
            self.worker.mark_in_dlq(delivery, failure).await;
        }
        self.after_dead_letter(message, sent)
    }

    /// A message that is kept among the dead letters is not needed any more; one that is not comes back.
    fn after_dead_letter(&self, message: &SqsMessage, after_dead_letter: Result<(), StoreError>) -> Option<Duration> {
        let error = after_dead_letter.err()?;
        error!(message.id = message.message_id, %error, "a dead letter cannot be stored");
        Some(self.receive_backoff(message))
    }

    fn deadline(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default()
    }

    fn receive_backoff(&self, message: &SqsMessage) -> Duration {
        retry::retry_delay(receive_limits::receive_count(message), None, self.clock.random())
    }

    async fn change_visibility(&self, message: &SqsMessage, delay: Duration) {
        let Some(receipt) = &message.receipt_handle else { return };
        // SQS counts whole seconds, and nobody is asked before the time that was asked for.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let seconds = i32::try_from(seconds).unwrap_or(MAX_VISIBILITY_SECS).min(MAX_VISIBILITY_SECS);
        if let Err(error) = self.queue.change_visibility(receipt, seconds).await {
            // It then comes back when the queue's own time is up: later, but it comes.
            warn!(%error, "a message could not be put back in time");
        }
    }
}
