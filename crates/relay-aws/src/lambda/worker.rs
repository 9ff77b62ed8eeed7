//! The worker of a queue: it processes one message, and says what becomes of it.

use std::future::Future;
use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::queue::{Deliver, StoreError};
use relay::rate_limit::limiter::{Readiness, Unavailable};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::Delivery;
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::error;

use crate::lambda::attempt::{AttemptContext, Attempter, Outcome};
use crate::ledger::contact_lock::{Blocker, ContactFastPath};
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::{self, DeadLetterAttributes, MALFORMED};
use crate::sqs::message;
use crate::sqs::queue::SqsQueue;
use crate::sqs::receive_limits;

/// The least time that must be left for an attempt to begin: a permit, a call, and its record.
pub(crate) const MIN_ATTEMPT_TIME: Duration = Duration::from_secs(30);
/// Reserved at the end of the function's time for the response to Lambda.
pub(crate) const RESPONSE_RESERVE: Duration = Duration::from_secs(4);
/// Reserved before that for recording the result of an attempt.
const RECORD_RESERVE: Duration = Duration::from_secs(1);
/// The delay before a message is processed again that another delivery comes before.
const RETRY_SOON_DELAY: Duration = Duration::from_secs(2);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageAction {
    /// It is deleted: its delivery is settled.
    Delete,
    /// It becomes visible again after this time.
    RetryAfter(Duration),
}

/// The order of the deliveries of one contact.
pub trait ContactOrder: Send + Sync {
    /// Returns what has to come before a delivery.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    fn blocker(&self, delivery: &Delivery) -> impl Future<Output = Result<Blocker, StoreError>> + Send;

    /// Lets the next delivery of the contact go, after this one was settled.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    fn finish(&self, delivery: &Delivery, delivered: bool) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// No order beyond that of the queue: rows to Clay are never sent past it.
#[derive(Debug, Clone, Copy)]
pub struct QueueOrder;

impl ContactOrder for QueueOrder {
    async fn blocker(&self, _: &Delivery) -> Result<Blocker, StoreError> {
        Ok(Blocker::None)
    }

    async fn finish(&self, _: &Delivery, _: bool) -> Result<(), StoreError> {
        Ok(())
    }
}

impl<C: Clock> ContactOrder for ContactFastPath<C> {
    async fn blocker(&self, delivery: &Delivery) -> Result<Blocker, StoreError> {
        Self::blocker(self, delivery).await
    }

    async fn finish(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreError> {
        Self::finish(self, delivery, delivered).await
    }
}

/// What would send a delivery again that is delivered but not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resend {
    /// Its message, and nothing else.
    ByMessage,
    /// The contact lock, which has it as the deferred delivery.
    ByLock,
}

/// The worker of one queue.
#[derive(Debug)]
pub struct QueueWorker<D, O, C> {
    /// Makes one attempt.
    pub deliverer: D,
    /// What is known of deliveries.
    pub ledger: Ledger,
    /// What comes first of a contact.
    pub order: O,
    /// The queue, and its dead-letter queue.
    pub queue: SqsQueue,
    /// Time and random numbers.
    pub clock: C,
}

impl<D: Deliver, O: ContactOrder, C: Clock> QueueWorker<D, O, C> {
    /// Processes one message. The result is to be recorded a moment before the deadline.
    pub(crate) async fn process(&self, group: &str, message: &SqsMessage, deadline: Instant) -> MessageAction {
        let body = message.body.as_deref().unwrap_or_default();
        let Ok(delivery) = message::decode(body) else { return self.dead_letter_malformed(group, message).await };
        let context = AttemptContext {
            redriven_until: dead_letter::superseded_failures_until(message),
            deadline: deadline.checked_sub(RECORD_RESERVE).unwrap_or(deadline),
        };
        let outcome = if receive_limits::is_expired(message, self.clock.now()) {
            let outcome = self.attempter().expire(&delivery, context).await;
            self.finish_if_final(&delivery, outcome, context).await
        } else {
            match self.deliverer.readiness() {
                Readiness::Unavailable(Unavailable::CircuitOpen(retry_in)) => {
                    return MessageAction::RetryAfter(retry_in.max(self.backoff(message)));
                }
                Readiness::Unavailable(Unavailable::Throttled(retry_in)) => return MessageAction::RetryAfter(retry_in),
                Readiness::Ready | Readiness::HalfOpen => self.deliver(&delivery, context).await,
            }
        };
        match outcome {
            Outcome::Delivered { .. } | Outcome::AlreadyDeadLettered => MessageAction::Delete,
            Outcome::DeadLetter(_) | Outcome::DeadLetterConflict(_) => {
                let stored = self.store_dead_letter(&delivery, outcome).await;
                self.delete_if(stored, message)
            }
            Outcome::RetryAt(at) => {
                let delay = at.duration_since(self.clock.now());
                MessageAction::RetryAfter(Duration::try_from(delay).unwrap_or_default())
            }
            Outcome::RetrySoon => MessageAction::RetryAfter(RETRY_SOON_DELAY),
            Outcome::RetryWithBackoff => self.retry_with_backoff(message),
        }
    }

    /// Returns the action for a message that failed for a reason of the relay's own: SQS counts how often it was received, so
    /// the delay grows.
    pub(crate) fn retry_with_backoff(&self, message: &SqsMessage) -> MessageAction {
        MessageAction::RetryAfter(self.backoff(message))
    }

    /// Delivers what comes first of the contact, and then this delivery.
    async fn deliver(&self, delivery: &Delivery, context: AttemptContext) -> Outcome {
        match self.order.blocker(delivery).await {
            Ok(Blocker::None) => self.attempt(delivery, context, Resend::ByMessage).await,
            Ok(Blocker::Own) => self.attempt(delivery, context, Resend::ByLock).await,
            Ok(Blocker::Locked) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Waiting).emit();
                Outcome::RetrySoon
            }
            Ok(Blocker::Deferred(deferred)) => match self.deliver_deferred(&deferred, context).await {
                // An attempt that is cut off in the middle of a call would be sent once more.
                outcome if outcome.is_final() && !has_time_for_attempt(context) => Outcome::RetrySoon,
                outcome if outcome.is_final() => self.attempt(delivery, context, Resend::ByMessage).await,
                outcome => outcome,
            },
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the contact lock cannot be read");
                Outcome::RetryWithBackoff
            }
        }
    }

    async fn attempt(&self, delivery: &Delivery, context: AttemptContext, resend: Resend) -> Outcome {
        let outcome = self.attempter().attempt(delivery, context).await;
        let is_unrecorded = outcome == (Outcome::Delivered { recorded: false });
        match self.finish_if_final(delivery, outcome, context).await {
            // Nothing can be recorded. Without its message nothing sends it again. The contact stays locked until a row is
            // settled that came ten minutes later.
            Outcome::RetryWithBackoff if is_unrecorded && resend == Resend::ByMessage => outcome,
            finished => finished,
        }
    }

    /// Delivers the deferred delivery of a contact, whose own message is still hidden.
    async fn deliver_deferred(&self, deferred: &Delivery, context: AttemptContext) -> Outcome {
        // No operator has redriven it, so no earlier failure of it is superseded.
        let context = AttemptContext { redriven_until: Timestamp::UNIX_EPOCH, ..context };
        let outcome = self.attempter().attempt(deferred, context).await;
        if outcome == (Outcome::Delivered { recorded: false }) {
            // Its own message is still to come and would send it after the others. So it stays first: if it is sent again, it
            // overwrites nothing newer.
            return Outcome::RetryWithBackoff;
        }
        if matches!(outcome, Outcome::DeadLetter(_) | Outcome::DeadLetterConflict(_))
            && let Err(error) = self.store_dead_letter(deferred, outcome).await
        {
            error!(delivery.id = %deferred.id, %error, "a dead letter cannot be stored");
            return Outcome::RetryWithBackoff;
        }
        self.finish_if_final(deferred, outcome, context).await
    }

    async fn finish_if_final(&self, delivery: &Delivery, outcome: Outcome, context: AttemptContext) -> Outcome {
        if !outcome.is_final() {
            return outcome;
        }
        let finish = self.order.finish(delivery, matches!(outcome, Outcome::Delivered { .. }));
        let timed_out = || StoreError("the time of the worker is over".to_owned());
        let finished = tokio::time::timeout_at(context.deadline, finish).await.unwrap_or_else(|_| Err(timed_out()));
        match finished {
            Ok(()) => outcome,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the contact lock cannot be released");
                Outcome::RetryWithBackoff
            }
        }
    }

    /// Sends a dead letter to the dead-letter queue, and records that.
    async fn store_dead_letter(&self, delivery: &Delivery, outcome: Outcome) -> Result<(), StoreError> {
        let (delivery, failure) = match outcome {
            Outcome::DeadLetter(failure) => (delivery.clone(), failure),
            Outcome::DeadLetterConflict(failure) => (delivery.as_conflict(), failure),
            _ => return Ok(()),
        };
        self.queue.dead_letter_delivery(&delivery, failure).await?;
        self.attempter().mark_in_dlq(&delivery, failure).await;
        Ok(())
    }

    async fn dead_letter_malformed(&self, group: &str, message: &SqsMessage) -> MessageAction {
        let id = message.message_id.as_deref().unwrap_or_default();
        error!(message.id = id, "a message that is no delivery goes to the dead letters");
        let (received_at, died_at) = (receive_limits::sent_at(message), self.clock.now());
        let attributes = DeadLetterAttributes { reason: MALFORMED, status: None, attempts: 0, received_at, died_at };
        let body = message.body.as_deref().unwrap_or_default();
        let stored = self.queue.dead_letter_message(body, group, id, attributes).await;
        self.delete_if(stored, message)
    }

    /// A message whose dead letter is stored is deleted; another one comes back.
    fn delete_if(&self, stored: Result<(), StoreError>, message: &SqsMessage) -> MessageAction {
        match stored {
            Ok(()) => MessageAction::Delete,
            Err(error) => {
                error!(message.id = message.message_id, %error, "a dead letter cannot be stored");
                self.retry_with_backoff(message)
            }
        }
    }

    fn backoff(&self, message: &SqsMessage) -> Duration {
        retry::retry_delay(receive_limits::receive_count(message), None, self.clock.random())
    }

    const fn attempter(&self) -> Attempter<'_, D, C> {
        Attempter { deliverer: &self.deliverer, ledger: &self.ledger, clock: &self.clock }
    }
}

fn has_time_for_attempt(context: AttemptContext) -> bool {
    let remaining = context.deadline.saturating_duration_since(Instant::now());
    remaining + RECORD_RESERVE + RESPONSE_RESERVE >= MIN_ATTEMPT_TIME
}
