//! The worker of a queue: it processes one message after another, from its body to what is done to it in SQS.

use std::future::Future;
use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use futures_util::future::join_all;
use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::queue::{Deliver, StoreError};
use relay::rate_limit::limiter::{Readiness, Unavailable};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::Delivery;
use tracing::{error, warn};

use crate::lambda::attempt::{Attempt, AttemptOutcome, MessageAction};
use crate::lambda::contact_order::ContactOrder;
use crate::lambda::time_budget::TimeBudget;
use crate::ledger::contact_lock::Blocker;
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::{self, DeadLetterAttributes, FailureInfo, MALFORMED};
use crate::sqs::early_release::{BlockedOn, EarlyRelease};
use crate::sqs::message;
use crate::sqs::queue::SqsQueue;
use crate::sqs::receive_limits;

/// The worker of one queue.
#[derive(Debug)]
pub struct QueueWorker<D, O, C> {
    /// Sends a delivery to its destination.
    pub deliverer: D,
    /// Knows what became of each delivery.
    pub ledger: Ledger,
    /// Knows what must go before a delivery.
    pub order: O,
    /// The queue whose messages are processed, and its dead-letter queue.
    pub queue: SqsQueue,
    /// Makes deferred messages visible early.
    pub early_release: EarlyRelease,
    /// Time and randomness.
    pub clock: C,
}

/// What a message says besides its delivery, and the time for it.
#[derive(Debug, Clone, Copy)]
struct MessageContext {
    /// Time up to which earlier failures of the delivery are superseded by the message.
    superseded_until: Timestamp,
    budget: TimeBudget,
}

impl<D: Deliver, O: ContactOrder, C: Clock> QueueWorker<D, O, C> {
    /// Processes one message of a group and returns what is to be done to it.
    pub(crate) async fn process(&self, group: &str, message: &SqsMessage, budget: TimeBudget) -> MessageAction {
        let Ok(delivery) = message::decode(message.body.as_deref().unwrap_or_default()) else {
            return self.dead_letter_malformed(group, message).await;
        };
        let context = MessageContext { superseded_until: dead_letter::superseded_failures_until(message), budget };
        let receipt = message.receipt_handle.as_deref().unwrap_or_default();
        let outcome = if receive_limits::is_expired(message, self.clock.now()) {
            let outcome = self.attempt(&delivery, context).expire().await;
            self.finish_if_final(&delivery, outcome, context).await
        } else {
            match self.deliverer.readiness() {
                Readiness::Unavailable(Unavailable::CircuitOpen(at_least)) => {
                    self.defer(&delivery, BlockedOn::Destination, receipt).await;
                    return MessageAction::Backoff { at_least };
                }
                Readiness::Unavailable(Unavailable::Throttled(delay)) => return MessageAction::RetryAfter(delay),
                Readiness::Ready | Readiness::HalfOpen => {}
            }
            let outcome = self.deliver_in_order(&delivery, context).await;
            self.release(context, self.early_release.release_after_rotation(&self.ledger, &self.clock)).await;
            outcome
        };
        match outcome {
            AttemptOutcome::Delivered { waited, .. } => {
                let released = self.early_release.release_after_success(&self.ledger, &delivery, waited);
                self.release(context, released).await;
                MessageAction::Delete
            }
            AttemptOutcome::DeadLetter(failure) => {
                after_dead_letter(message, self.dead_letter(&delivery, failure).await)
            }
            AttemptOutcome::DeadLetterConflict(failure) => {
                after_dead_letter(message, self.dead_letter(&delivery.as_conflict(), failure).await)
            }
            AttemptOutcome::AlreadyInDlq => MessageAction::Delete,
            AttemptOutcome::Deferred(at, blocked_on) => {
                self.defer(&delivery, blocked_on, receipt).await;
                MessageAction::RetryAt(at)
            }
            AttemptOutcome::Pending(action) => action,
        }
    }

    fn attempt<'a>(&'a self, delivery: &'a Delivery, context: MessageContext) -> Attempt<'a, D, C> {
        let Self { deliverer, ledger, clock, .. } = self;
        let MessageContext { superseded_until, budget } = context;
        Attempt { deliverer, ledger, clock, delivery, superseded_until, budget }
    }

    /// Attempts a delivery once nothing of its contact has to go before it.
    async fn deliver_in_order(&self, delivery: &Delivery, context: MessageContext) -> AttemptOutcome {
        match self.order.blocker(delivery).await {
            Ok(Blocker::None) => self.deliver(delivery, context).await,
            Ok(Blocker::Own) => {
                let outcome = self.attempt(delivery, context).run().await;
                self.finish_if_final(delivery, outcome, context).await
            }
            Ok(Blocker::Locked) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Waiting).emit();
                AttemptOutcome::Pending(MessageAction::Later)
            }
            Ok(Blocker::Deferred(deferred)) => match self.deliver_deferred(&deferred, context).await {
                outcome if !outcome.is_final() => outcome,
                _ if context.budget.has_time_for_attempt() => self.deliver(delivery, context).await,
                // An attempt that is broken off in the middle of a call would be made once more.
                _ => AttemptOutcome::Pending(MessageAction::Later),
            },
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the lane cannot be read");
                AttemptOutcome::Pending(MessageAction::BACKOFF)
            }
        }
    }

    /// Attempts the delivery of a message that nothing blocks.
    async fn deliver(&self, delivery: &Delivery, context: MessageContext) -> AttemptOutcome {
        let outcome = self.attempt(delivery, context).run().await;
        match self.finish_if_final(delivery, outcome, context).await {
            // Nothing can be recorded, so the message must go: without it, nothing sends the delivery again. The contact
            // stays locked until a row has ended that came ten minutes later.
            AttemptOutcome::Pending(_) if matches!(outcome, AttemptOutcome::Delivered { recorded: false, .. }) => {
                outcome
            }
            finished => finished,
        }
    }

    /// Attempts the deferred delivery that goes before the message's. No message of its own may exist, so its dead letter is
    /// sent before the contact forgets it.
    async fn deliver_deferred(&self, deferred: &Delivery, context: MessageContext) -> AttemptOutcome {
        // A deferred delivery was never redriven by an operator, so earlier dead-letter records of it do not count.
        let context = MessageContext { superseded_until: Timestamp::UNIX_EPOCH, ..context };
        let outcome = self.attempt(deferred, context).run().await;
        let dead_lettered = match outcome {
            // Its own message is still to come and would send it after the others. So it stays before them: if it is sent
            // again, it overwrites nothing.
            AttemptOutcome::Delivered { recorded: false, .. } => {
                return AttemptOutcome::Pending(MessageAction::BACKOFF);
            }
            AttemptOutcome::DeadLetter(failure) => self.dead_letter(deferred, failure).await,
            AttemptOutcome::DeadLetterConflict(failure) => self.dead_letter(&deferred.as_conflict(), failure).await,
            _ => Ok(()),
        };
        if let Err(error) = dead_lettered {
            error!(delivery.id = %deferred.id, %error, "a dead letter cannot be stored");
            return AttemptOutcome::Pending(MessageAction::BACKOFF);
        }
        self.finish_if_final(deferred, outcome, context).await
    }

    /// Tells the contact's order that a delivery has ended. If that fails, the delivery counts as pending.
    async fn finish_if_final(
        &self,
        delivery: &Delivery,
        outcome: AttemptOutcome,
        context: MessageContext,
    ) -> AttemptOutcome {
        if !outcome.is_final() {
            return outcome;
        }
        let finish = self.order.finish(delivery, matches!(outcome, AttemptOutcome::Delivered { .. }));
        let timed_out = || StoreError("the time of the worker is over".to_owned());
        let result = tokio::time::timeout_at(context.budget.record_deadline(), finish).await;
        match result.unwrap_or_else(|_| Err(timed_out())) {
            Ok(()) => outcome,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the lane cannot be left");
                AttemptOutcome::Pending(MessageAction::BACKOFF)
            }
        }
    }

    /// Sends a dead letter and records that it is in the dead-letter queue.
    async fn dead_letter(&self, delivery: &Delivery, failure: FailureInfo) -> Result<(), StoreError> {
        self.queue.dead_letter_delivery(delivery, failure).await?;
        if let Err(error) = self.ledger.in_dlq(&delivery.id, failure, self.clock.now()).await {
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
        after_dead_letter(message, self.queue.dead_letter_message(body, group, id, attributes).await)
    }

    async fn defer(&self, delivery: &Delivery, blocked_on: BlockedOn, receipt: &str) {
        let readiness = self.deliverer.readiness();
        self.early_release.defer(&self.ledger, &self.clock, delivery, blocked_on, readiness, receipt).await;
    }

    /// Makes deferred messages visible, as far as there is time: they become visible by themselves, and a delivery that is
    /// broken off for them would be sent again.
    async fn release(&self, context: MessageContext, released: impl Future<Output = Vec<String>>) {
        let make_visible = async {
            let receipts = released.await;
            join_all(receipts.iter().map(|receipt| self.queue.change_visibility(receipt, 0))).await;
        };
        let deadline = context.budget.record_deadline() + Duration::from_millis(500);
        drop(tokio::time::timeout_at(deadline, make_visible).await);
    }
}

/// Deletes a message whose dead letter is stored. The message comes back if it is not.
fn after_dead_letter(message: &SqsMessage, stored: Result<(), StoreError>) -> MessageAction {
    match stored {
        Ok(()) => MessageAction::Delete,
        Err(error) => {
            error!(message.id = message.message_id, %error, "a dead letter cannot be stored");
            MessageAction::BACKOFF
        }
    }
}
