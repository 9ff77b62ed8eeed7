//! One attempt at a delivery: the ledger is asked first and told afterwards.

use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::queue::Deliver;
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::{AttemptResult, Delivery, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::ledger::attempts::{BeginAttempt, DeadLettered, PriorDeath};
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::FailureInfo;

/// What an attempt, or the end of a delivery without one, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination has it.
    Delivered {
        /// Whether the ledger says so. If not, only a second message would send it again.
        recorded: bool,
    },
    /// It will never be accepted: it goes to the dead-letter queue.
    DeadLetter(FailureInfo),
    /// Its id is known with another body: it goes to the dead-letter queue under an id of its own.
    DeadLetterConflict(FailureInfo),
    /// It is in the dead-letter queue already.
    AlreadyDeadLettered,
    /// It is retried at that time, and not before.
    RetryAt(Timestamp),
    /// It is retried in a moment: another delivery, or another attempt, comes first.
    RetrySoon,
    /// The ledger or a queue failed: it is retried with a growing delay.
    RetryWithBackoff,
}

impl Outcome {
    /// Returns whether the delivery is settled.
    pub(crate) const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Delivered { .. } | Self::DeadLetter(_) | Self::DeadLetterConflict(_) | Self::AlreadyDeadLettered
        )
    }
}

/// The limits of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptContext {
    /// Failures up to this time are superseded: an operator has redriven the delivery since.
    pub(crate) redriven_until: Timestamp,
    /// When the result must be recorded.
    pub(crate) deadline: Instant,
}

/// Makes attempts, and keeps the ledger's record of them.
#[derive(Debug)]
pub(crate) struct Attempter<'a, D, C> {
    pub(crate) deliverer: &'a D,
    pub(crate) ledger: &'a Ledger,
    pub(crate) clock: &'a C,
}

impl<D: Deliver, C: Clock> Attempter<'_, D, C> {
    pub(crate) async fn attempt(&self, delivery: &Delivery, context: AttemptContext) -> Outcome {
        let (ledger, clock) = (self.ledger, self.clock);
        let attempt_id = clock.new_id();
        let history = match ledger.begin_attempt(delivery, &attempt_id, context.redriven_until, clock.now()).await {
            Ok(BeginAttempt::Proceed(history)) => history,
            Ok(BeginAttempt::AlreadyDelivered) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Duplicate).emit();
                return Outcome::Delivered { recorded: true };
            }
            Ok(BeginAttempt::NotBefore(at)) => return Outcome::RetryAt(at),
            Ok(BeginAttempt::AlreadyDead(prior)) => return to_dead_letter(prior, Outcome::DeadLetter),
            Ok(BeginAttempt::Conflict) => return self.dead_letter_conflict(delivery, context).await,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the ledger cannot be written: nothing is sent");
                return Outcome::RetryWithBackoff;
            }
        };
        let result = self.deliverer.deliver(delivery, history).await;
        if result == AttemptResult::Delivered {
            return Outcome::Delivered {
                recorded: self.record_delivered(delivery, &attempt_id, context.deadline).await,
            };
        }
        let now = clock.now();
        let attempts = match ledger.finish_attempt(&delivery.id, &attempt_id, result, now).await {
            Ok(Some(attempts)) => attempts,
            Ok(None) => {
                warn!(delivery.id = %delivery.id, "another attempt was begun meanwhile, and what it comes to counts");
                return Outcome::RetrySoon;
            }
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the end of an attempt cannot be recorded");
                return Outcome::RetryWithBackoff;
            }
        };
        match result {
            AttemptResult::Delivered => Outcome::Delivered { recorded: true },
            AttemptResult::DeadLetter(reason) => Outcome::DeadLetter(FailureInfo { reason, attempts, at: now }),
            AttemptResult::RetryAt { at, .. } | AttemptResult::HoldUntil { at, .. } => Outcome::RetryAt(at),
        }
    }

    /// Dead-letters a delivery without an attempt. The ledger is written first, so that an event that is redriven is stored
    /// anew.
    pub(crate) async fn expire(&self, delivery: &Delivery, context: AttemptContext) -> Outcome {
        let reason = Reason::without_status(ReasonCode::Expired);
        match self.ledger.mark_dead(delivery, context.redriven_until, reason, self.clock.now()).await {
            Ok(DeadLettered::Marked(failure)) => {
                log_dead(delivery, failure);
                Outcome::DeadLetter(failure)
            }
            Ok(DeadLettered::AlreadyDelivered) => Outcome::Delivered { recorded: true },
            Ok(DeadLettered::AlreadyDeadLettered(prior)) => to_dead_letter(prior, Outcome::DeadLetter),
            Ok(DeadLettered::Conflict) => self.dead_letter_conflict(delivery, context).await,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "a dead letter cannot be recorded");
                Outcome::RetryWithBackoff
            }
        }
    }

    /// Records that a dead letter is in the dead-letter queue.
    pub(crate) async fn mark_in_dlq(&self, delivery: &Delivery, failure: FailureInfo) {
        if let Err(error) = self.ledger.in_dlq(&delivery.id, failure, self.clock.now()).await {
            // If its message comes once more, it is sent to the dead-letter queue once more.
            warn!(delivery.id = %delivery.id, %error, "a dead letter that is stored could not be recorded as such");
        }
    }

    /// Dead-letters another body under a known id, under an id of its own. The ledger's record of the first body stays.
    async fn dead_letter_conflict(&self, delivery: &Delivery, context: AttemptContext) -> Outcome {
        let reason = Reason::without_status(ReasonCode::IdConflict);
        let conflict = delivery.as_conflict();
        let marked = self.ledger.mark_dead(&conflict, context.redriven_until, reason, self.clock.now());
        match marked.await {
            Ok(DeadLettered::Marked(failure)) => {
                log_dead(delivery, failure);
                Outcome::DeadLetterConflict(failure)
            }
            Ok(DeadLettered::AlreadyDeadLettered(prior)) => to_dead_letter(prior, Outcome::DeadLetterConflict),
            // The same other body was dead-lettered before, and an operator has redriven it since.
            Ok(DeadLettered::AlreadyDelivered | DeadLettered::Conflict) => Outcome::Delivered { recorded: true },
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "a dead letter cannot be recorded");
                Outcome::RetryWithBackoff
            }
        }
    }

    /// Records that the destination has a delivery, with retries: without the record it could be sent again. A quarter of the
    /// time is left for the contact lock.
    async fn record_delivered(&self, delivery: &Delivery, attempt_id: &str, deadline: Instant) -> bool {
        let recorded = async {
            let mut attempts = 0;
            let result = AttemptResult::Delivered;
            while let Err(error) = self.ledger.finish_attempt(&delivery.id, attempt_id, result, self.clock.now()).await
            {
                attempts += 1;
                error!(delivery.id = %delivery.id, attempts, %error, "the end of an attempt cannot be recorded");
                tokio::time::sleep(retry::retry_delay(attempts, None, self.clock.random())).await;
            }
        };
        let remaining = deadline.saturating_duration_since(Instant::now());
        tokio::time::timeout(remaining * 3 / 4, recorded).await.is_ok()
    }
}

/// A delivery that died before goes to the dead-letter queue once more where it may be missing there.
fn to_dead_letter(prior: PriorDeath, outcome: impl FnOnce(FailureInfo) -> Outcome) -> Outcome {
    if prior.in_dlq { Outcome::AlreadyDeadLettered } else { outcome(prior.info) }
}

/// Logs a dead letter that no attempt has logged.
fn log_dead(delivery: &Delivery, failure: FailureInfo) {
    let FailureInfo { reason, attempts, .. } = failure;
    let event = DeliveryEvent::for_delivery(delivery, EventOutcome::DeadLettered);
    DeliveryEvent { reason: Some(reason), attempts, ..event }.emit();
}
