//! One attempt of a delivery: the ledger admits it, the deliverer makes it, and the ledger records its result.

use std::time::Duration;

use jiff::Timestamp;
use relay::delivery::Deliver;
use relay::ports::clock::SharedClock;
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, FinishedAttempt, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::lambda::time_budget::TimeBudget;
use crate::ledger::attempts::{BeginAttempt, DeadLettered, PriorDeath};
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::FailureInfo;

/// What is done to a message in SQS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageAction {
    /// It is not reported as failed, so Lambda deletes it.
    Delete,
    RetryAt(Timestamp),
    RetryAfter(Duration),
    /// It becomes visible in a moment: its contact is busy.
    RetrySoon,
    /// It becomes visible later with every receive, because a service that the worker needs does not answer.
    Backoff {
        at_least: Duration,
    },
}

impl MessageAction {
    pub(crate) const BACKOFF: Self = Self::Backoff { at_least: Duration::ZERO };
}

/// What processing a delivery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    Delivered {
        recorded: bool,
    },
    /// It has failed for good, and its dead letter is still to be sent.
    DeadLetter(FailureInfo),
    /// Another body is known under its id. The dead letter gets an id of its own.
    DeadLetterConflict(FailureInfo),
    /// It failed for good earlier, and its dead letter is in the dead-letter queue.
    AlreadyInDlq,
    Pending(MessageAction),
}

impl AttemptOutcome {
    pub(crate) const fn is_final(self) -> bool {
        !matches!(self, Self::Pending(_))
    }
}

/// A delivery that a worker processes, and what the worker processes it with.
#[derive(Debug)]
pub(crate) struct Attempt<'a, D> {
    pub(crate) deliverer: &'a D,
    pub(crate) ledger: &'a Ledger,
    pub(crate) clock: &'a SharedClock,
    pub(crate) delivery: &'a Delivery,
    /// Time up to which earlier failures do not count, because an operator has redriven the delivery since.
    pub(crate) ignore_failures_until: Timestamp,
    pub(crate) budget: TimeBudget,
}

impl<D: Deliver> Attempt<'_, D> {
    /// Makes the attempt, unless the ledger says that the delivery has ended or must wait.
    pub(crate) async fn run(&self) -> AttemptOutcome {
        let Self { ledger, clock, delivery, .. } = *self;
        let attempt_id = clock.new_id();
        let history = match ledger.begin_attempt(delivery, &attempt_id, self.ignore_failures_until, clock.now()).await {
            Ok(BeginAttempt::Proceed(history)) => history,
            Ok(BeginAttempt::AlreadyDelivered) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Duplicate).emit();
                return AttemptOutcome::Delivered { recorded: true };
            }
            Ok(BeginAttempt::NotBefore(at)) => return AttemptOutcome::Pending(MessageAction::RetryAt(at)),
            Ok(BeginAttempt::AlreadyDead(prior)) => return dead_letter_again(prior, AttemptOutcome::DeadLetter),
            Ok(BeginAttempt::Conflict) => return self.dead_letter_conflict().await,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the ledger cannot be written: nothing is sent");
                return AttemptOutcome::Pending(MessageAction::BACKOFF);
            }
        };
        let finished = self.deliverer.deliver(delivery, history).await;
        let result = finished.result;
        if result == AttemptResult::Delivered {
            return AttemptOutcome::Delivered { recorded: self.record_delivered(&attempt_id, &finished).await };
        }
        let now = clock.now();
        let attempts = match ledger.finish_attempt(&delivery.id, &attempt_id, history, &finished, now).await {
            Ok(Some(attempts)) => attempts,
            Ok(None) => {
                warn!(delivery.id = %delivery.id, "another attempt was begun meanwhile, and what it comes to counts");
                return AttemptOutcome::Pending(MessageAction::RetrySoon);
            }
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the end of an attempt cannot be recorded");
                return AttemptOutcome::Pending(MessageAction::BACKOFF);
            }
        };
        match result {
            AttemptResult::Delivered => AttemptOutcome::Delivered { recorded: true },
            AttemptResult::DeadLetter(reason) => AttemptOutcome::DeadLetter(FailureInfo { reason, attempts, at: now }),
            AttemptResult::RetryAt { at, .. } | AttemptResult::HoldUntil { at, .. } => {
                AttemptOutcome::Pending(MessageAction::RetryAt(at))
            }
        }
    }

    /// Ends the delivery as expired, without an attempt. The ledger is written before the dead letter is sent, so that an
    /// event whose row is run again is enqueued anew.
    pub(crate) async fn expire(&self) -> AttemptOutcome {
        match self.mark_dead(self.delivery, ReasonCode::Expired, AttemptOutcome::DeadLetter).await {
            Some(outcome) => outcome,
            None => self.dead_letter_conflict().await,
        }
    }

    /// Ends another body under a known id, under an id of its own: the ledger's item of the first body stays.
    async fn dead_letter_conflict(&self) -> AttemptOutcome {
        let conflict = self.delivery.as_conflict();
        match self.mark_dead(&conflict, ReasonCode::IdConflict, AttemptOutcome::DeadLetterConflict).await {
            Some(outcome) => outcome,
            // The same other body was dead-lettered earlier, and an operator has redriven it since.
            None => AttemptOutcome::Delivered { recorded: true },
        }
    }

    /// Records a failure without an attempt. Returns nothing if another body is known under the id.
    async fn mark_dead(
        &self,
        delivery: &Delivery,
        code: ReasonCode,
        outcome: fn(FailureInfo) -> AttemptOutcome,
    ) -> Option<AttemptOutcome> {
        let reason = Reason::without_status(code);
        Some(match self.ledger.mark_dead(delivery, self.ignore_failures_until, reason, self.clock.now()).await {
            Ok(DeadLettered::Marked(failure)) => {
                log_dead(self.delivery, failure);
                outcome(failure)
            }
            Ok(DeadLettered::AlreadyDelivered) => AttemptOutcome::Delivered { recorded: true },
            Ok(DeadLettered::AlreadyDeadLettered(prior)) => dead_letter_again(prior, outcome),
            Ok(DeadLettered::Conflict) => return None,
            Err(error) => {
                error!(delivery.id = %self.delivery.id, %error, "a dead letter cannot be recorded");
                AttemptOutcome::Pending(MessageAction::BACKOFF)
            }
        })
    }

    /// Records that the destination has the delivery, and returns whether that succeeded. It is tried again and again,
    /// because a missing record would let the delivery be sent twice. A quarter of the time is left for the contact's order.
    async fn record_delivered(&self, attempt_id: &str, delivered: &FinishedAttempt) -> bool {
        let Self { ledger, clock, delivery, .. } = *self;
        let recorded = async {
            let (mut attempts, history) = (0, AttemptHistory::default());
            while let Err(error) =
                ledger.finish_attempt(&delivery.id, attempt_id, history, delivered, clock.now()).await
            {
                attempts += 1;
                error!(delivery.id = %delivery.id, attempts, %error, "the end of an attempt cannot be recorded");
                tokio::time::sleep(retry::retry_delay(attempts, None, clock.random())).await;
            }
        };
        let remaining = self.budget.record_deadline().saturating_duration_since(Instant::now());
        tokio::time::timeout(remaining * 3 / 4, recorded).await.is_ok()
    }
}

/// Returns the outcome of a delivery that failed for good earlier: its dead letter is sent again if it may be missing.
fn dead_letter_again(prior: PriorDeath, outcome: impl FnOnce(FailureInfo) -> AttemptOutcome) -> AttemptOutcome {
    if prior.in_dlq { AttemptOutcome::AlreadyInDlq } else { outcome(prior.info) }
}

fn log_dead(delivery: &Delivery, failure: FailureInfo) {
    let FailureInfo { reason, attempts, .. } = failure;
    DeliveryEvent {
        reason: Some(reason),
        attempts,
        ..DeliveryEvent::for_delivery(delivery, EventOutcome::DeadLettered)
    }
    .emit();
}
