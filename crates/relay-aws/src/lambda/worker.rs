//! The worker of a queue: it processes one message after another, from its body to what is done to it in SQS.

use aws_lambda_events::sqs::SqsMessage;
use jiff::Timestamp;
use relay::delivery::Deliver;
use relay::ports::clock::SharedClock;
use relay::ports::queue::StoreError;
use relay::ports::rate_limiter::{Readiness, Unavailable};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::Delivery;
use tracing::{error, warn};

use crate::lambda::attempt::{Attempt, AttemptOutcome, MessageAction};
use crate::lambda::contact_order::{ContactOrder, SendOrder};
use crate::lambda::time_budget::TimeBudget;
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::{self, DeadLetterAttributes, MALFORMED};
use crate::sqs::message;
use crate::sqs::queue::SqsQueue;
use crate::sqs::receive_limits;

/// The worker of one queue.
#[derive(Debug)]
pub struct QueueWorker<D, O> {
    /// Sends a delivery to its destination.
    pub deliverer: D,
    /// Records of all deliveries.
    pub ledger: Ledger,
    /// Order of the deliveries of a contact.
    pub order: O,
    /// The queue whose messages are processed, and its dead-letter queue.
    pub queue: SqsQueue,
    /// Time and randomness.
    pub clock: SharedClock,
}

/// What a message says besides its delivery, and the time for it.
#[derive(Debug, Clone, Copy)]
struct MessageContext {
    /// Time up to which earlier failures of the delivery do not count: the message is a redrive of them.
    ignore_failures_until: Timestamp,
    budget: TimeBudget,
}

impl<D: Deliver, O: ContactOrder> QueueWorker<D, O> {
    /// Processes one message of a group and returns what is to be done to it.
    pub(crate) async fn process(&self, group: &str, message: &SqsMessage, budget: TimeBudget) -> MessageAction {
        let Ok(delivery) = message::decode(message.body.as_deref().unwrap_or_default()) else {
            return self.dead_letter_malformed(group, message).await;
        };
        let context = MessageContext { ignore_failures_until: dead_letter::ignore_failures_until(message), budget };
        let outcome = if receive_limits::is_expired(message, self.clock.now()) {
            let outcome = self.attempt(&delivery, context).expire().await;
            self.record_ended_if_final(&delivery, outcome, context).await
        } else {
            match self.deliverer.readiness() {
                Readiness::Unavailable(Unavailable::CircuitOpen(at_least)) => {
                    return MessageAction::Backoff { at_least };
                }
                Readiness::Unavailable(Unavailable::Throttled(delay)) => return MessageAction::RetryAfter(delay),
                Readiness::Ready | Readiness::HalfOpen => {}
            }
            self.deliver_in_order(&delivery, context).await
        };
        let action = match outcome {
            AttemptOutcome::Pending(action) => action,
            ended => delete_or_back_off(message, self.send_dead_letter_if_failed(&delivery, ended).await),
        };
        if action == MessageAction::BACKOFF {
            // A store fails. SQS' own age of the queue leaves out what is received again and again, so an alarm needs this.
            let age = self.clock.now().duration_since(delivery.received_at).try_into().ok();
            DeliveryEvent { age, ..DeliveryEvent::for_delivery(&delivery, EventOutcome::Retried) }.emit();
        }
        action
    }

    fn attempt<'a>(&'a self, delivery: &'a Delivery, context: MessageContext) -> Attempt<'a, D> {
        let Self { deliverer, ledger, clock, .. } = self;
        let MessageContext { ignore_failures_until, budget } = context;
        Attempt { deliverer, ledger, clock, delivery, ignore_failures_until, budget }
    }

    /// Attempts a delivery once nothing of its contact has to go before it.
    async fn deliver_in_order(&self, delivery: &Delivery, context: MessageContext) -> AttemptOutcome {
        match self.order.send_order(delivery).await {
            Ok(SendOrder::Now) => self.attempt_or_let_go(delivery, context).await,
            Ok(SendOrder::NowAsDeferred) => {
                let outcome = self.attempt(delivery, context).run().await;
                self.record_ended_if_final(delivery, outcome, context).await
            }
            Ok(SendOrder::AfterLock) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Waiting).emit();
                AttemptOutcome::Pending(MessageAction::RetrySoon)
            }
            Ok(SendOrder::AfterDeferred(deferred)) => match self.deliver_deferred_first(&deferred, context).await {
                outcome if !outcome.is_final() => outcome,
                _ if context.budget.has_time_for_attempt() => self.attempt_or_let_go(delivery, context).await,
                // An attempt that is broken off in the middle of a call would be made once more.
                _ => AttemptOutcome::Pending(MessageAction::RetrySoon),
            },
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the order of the contact cannot be read");
                AttemptOutcome::Pending(MessageAction::BACKOFF)
            }
        }
    }

    /// Attempts the message's own delivery. If neither its delivery nor its end can be recorded, the message goes all the same.
    async fn attempt_or_let_go(&self, delivery: &Delivery, context: MessageContext) -> AttemptOutcome {
        let outcome = self.attempt(delivery, context).run().await;
        match self.record_ended_if_final(delivery, outcome, context).await {
            // Nothing can be recorded, so the message must go: without it, nothing sends the delivery again. Its entry stays in
            // the contact's item, and rows take the queue, until a row has ended that came ten minutes later.
            AttemptOutcome::Pending(_) if matches!(outcome, AttemptOutcome::Delivered { recorded: false }) => outcome,
            finished => finished,
        }
    }

    /// Attempts the deferred delivery that goes before the message's. It may have no message of its own, so its dead letter is
    /// sent before the contact forgets it.
    async fn deliver_deferred_first(&self, deferred: &Delivery, context: MessageContext) -> AttemptOutcome {
        // A deferred delivery was never redriven by an operator, so earlier dead-letter records of it do not count.
        let context = MessageContext { ignore_failures_until: Timestamp::UNIX_EPOCH, ..context };
        let outcome = self.attempt(deferred, context).run().await;
        if let AttemptOutcome::Delivered { recorded: false } = outcome {
            // Its own message is still to come and would send it after the others. So it stays before them: if it is sent
            // again, it overwrites nothing.
            return AttemptOutcome::Pending(MessageAction::BACKOFF);
        }
        if let Err(error) = self.send_dead_letter_if_failed(deferred, outcome).await {
            error!(delivery.id = %deferred.id, %error, "a dead letter cannot be stored");
            return AttemptOutcome::Pending(MessageAction::BACKOFF);
        }
        self.record_ended_if_final(deferred, outcome, context).await
    }

    /// Records in the contact's order that a delivery has ended. If that fails, the delivery counts as pending.
    async fn record_ended_if_final(
        &self,
        delivery: &Delivery,
        outcome: AttemptOutcome,
        context: MessageContext,
    ) -> AttemptOutcome {
        if !outcome.is_final() {
            return outcome;
        }
        let record = self.order.record_ended(delivery, matches!(outcome, AttemptOutcome::Delivered { .. }));
        let timed_out = || StoreError::new("the time of the worker is over");
        let result = tokio::time::timeout_at(context.budget.record_deadline(), record).await;
        match result.unwrap_or_else(|_| Err(timed_out())) {
            Ok(()) => outcome,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the end of a delivery cannot be recorded in the order of its contact");
                AttemptOutcome::Pending(MessageAction::BACKOFF)
            }
        }
    }

    /// Sends the dead letter of a delivery that failed for good, and records that it is in the dead-letter queue.
    async fn send_dead_letter_if_failed(&self, delivery: &Delivery, outcome: AttemptOutcome) -> Result<(), StoreError> {
        let (delivery, failure) = match outcome {
            AttemptOutcome::DeadLetter(failure) => (delivery, failure),
            AttemptOutcome::DeadLetterConflict(failure) => (&delivery.as_conflict(), failure),
            AttemptOutcome::Delivered { .. } | AttemptOutcome::AlreadyInDlq | AttemptOutcome::Pending(_) => {
                return Ok(());
            }
        };
        self.queue.dead_letter_delivery(delivery, &failure.dedup_id(delivery), failure).await?;
        if let Err(error) = self.ledger.record_in_dlq(&delivery.id, failure, self.clock.now()).await {
            // If its message comes once more, the dead letter is sent once more.
            warn!(delivery.id = %delivery.id, %error, "a dead letter that is stored could not be recorded as such");
        }
        Ok(())
    }

    /// Sends a message that carries no delivery to the dead-letter queue as it is.
    async fn dead_letter_malformed(&self, group: &str, message: &SqsMessage) -> MessageAction {
        let id = message.message_id.as_deref().unwrap_or_default();
        error!(message.id = id, "a message that is no delivery goes to the dead letters");
        let (received_at, died_at) = (receive_limits::sent_at(message), self.clock.now());
        let attributes = DeadLetterAttributes { reason: MALFORMED, status: None, attempts: 0, received_at, died_at };
        let body = message.body.as_deref().unwrap_or_default();
        delete_or_back_off(message, self.queue.dead_letter_message(body, group, id, attributes).await)
    }
}

/// Deletes a message that has ended, once its dead letter is stored, if it has one.
fn delete_or_back_off(message: &SqsMessage, stored: Result<(), StoreError>) -> MessageAction {
    match stored {
        Ok(()) => MessageAction::Delete,
        Err(error) => {
            error!(message.id = message.message_id, %error, "a dead letter cannot be stored");
            MessageAction::BACKOFF
        }
    }
}
