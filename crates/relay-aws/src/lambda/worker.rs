//! What is done with one message: the ledger is asked first and told afterwards.

use jiff::Timestamp;
use relay::delivery::Deliver;
use relay::ports::clock::Clock;
use relay::ports::queue::StoreError;
use relay::ports::rate_limiter::Readiness;
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::{AttemptResult, Delivery, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::lambda::batch::{MessageAction, MessageContext, MessageWorker};
use crate::ledger::attempts::{BeginAttempt, DeadLettered, PriorDeath};
use crate::ledger::contact_lock::{Blocker, ContactFastPath};
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::FailureInfo;
use crate::sqs::early_release::{BlockedOn, EarlyRelease};

/// A worker of the queue to Clay.
#[derive(Debug)]
pub struct ClayWorker<W, A> {
    /// One try of a delivery.
    pub deliverer: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// What is hidden until its time.
    pub parking: EarlyRelease,
    /// Time and chance.
    pub clock: A,
}

impl<W: Deliver, A: Clock> MessageWorker for ClayWorker<W, A> {
    async fn process(&self, delivery: &Delivery, context: MessageContext) -> MessageAction {
        // What cannot be recorded as delivered has no message any more, and so nobody sends it again.
        attempt(&self.deliverer, &self.ledger, &self.clock, delivery, context).await.action
    }

    async fn expire(&self, delivery: &Delivery, context: MessageContext) -> MessageAction {
        dead_letter_unattempted(&self.ledger, &self.clock, delivery, context, ReasonCode::Expired).await
    }

    async fn mark_in_dlq(&self, delivery: &Delivery, failure: FailureInfo) {
        mark_in_dlq(&self.ledger, &self.clock, delivery, failure).await;
    }

    fn readiness(&self) -> Readiness {
        self.deliverer.readiness()
    }

    async fn park(&self, delivery: &Delivery, waits_for: BlockedOn, receipt: &str) {
        let end = self.deliverer.readiness();
        self.parking.defer(&self.ledger, &self.clock, delivery, waits_for, end, receipt).await;
    }

    async fn freed_by(&self, delivery: &Delivery, waited: Option<BlockedOn>) -> Vec<String> {
        self.parking.release_after_success(&self.ledger, delivery, waited).await
    }

    async fn freed_by_mending(&self) -> Vec<String> {
        self.parking.release_after_rotation(&self.ledger, &self.clock).await
    }
}

/// A worker of the queue to Loops: it minds who has the lane to a contact, and what goes first.
#[derive(Debug)]
pub struct LoopsWorker<W, A> {
    /// One try of a delivery.
    pub deliverer: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// The lanes.
    pub fast_path: ContactFastPath<A>,
    /// What is hidden until its time.
    pub parking: EarlyRelease,
    /// Time and chance.
    pub clock: A,
}

impl<W: Deliver, A: Clock> MessageWorker for LoopsWorker<W, A> {
    async fn process(&self, delivery: &Delivery, context: MessageContext) -> MessageAction {
        match self.fast_path.blocker(delivery).await {
            Ok(Blocker::None) => self.send(delivery, context, RetrySource::Message).await,
            Ok(Blocker::Own) => self.send(delivery, context, RetrySource::Lock).await,
            Ok(Blocker::Locked) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Waiting).emit();
                MessageAction::Later
            }
            Ok(Blocker::Deferred(deferred)) => match self.send_deferred(&deferred, context).await {
                action if action.is_final() && context.has_time_for_attempt() => {
                    self.send(delivery, context, RetrySource::Message).await
                }
                // Broken off in the middle of a call, it would be sent once more.
                action if action.is_final() => MessageAction::Later,
                action => action,
            },
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the lane cannot be read");
                MessageAction::Backoff
            }
        }
    }

    async fn expire(&self, delivery: &Delivery, context: MessageContext) -> MessageAction {
        let action = dead_letter_unattempted(&self.ledger, &self.clock, delivery, context, ReasonCode::Expired).await;
        self.finish_if_ended(delivery, action, context).await
    }

    async fn mark_in_dlq(&self, delivery: &Delivery, failure: FailureInfo) {
        mark_in_dlq(&self.ledger, &self.clock, delivery, failure).await;
    }

    fn readiness(&self) -> Readiness {
        self.deliverer.readiness()
    }

    async fn park(&self, delivery: &Delivery, waits_for: BlockedOn, receipt: &str) {
        let end = self.deliverer.readiness();
        self.parking.defer(&self.ledger, &self.clock, delivery, waits_for, end, receipt).await;
    }

    async fn freed_by(&self, delivery: &Delivery, waited: Option<BlockedOn>) -> Vec<String> {
        self.parking.release_after_success(&self.ledger, delivery, waited).await
    }

    async fn freed_by_mending(&self) -> Vec<String> {
        self.parking.release_after_rotation(&self.ledger, &self.clock).await
    }
}

impl<W: Deliver, A: Clock> LoopsWorker<W, A> {
    async fn send(&self, delivery: &Delivery, context: MessageContext, retry_source: RetrySource) -> MessageAction {
        let AttemptOutcome { action, unrecorded } =
            attempt(&self.deliverer, &self.ledger, &self.clock, delivery, context).await;
        match self.finish_if_ended(delivery, action, context).await {
            // Nothing can be recorded: without its message, nobody sends it again. The lane stays closed until a row has
            // ended that came ten minutes later.
            MessageAction::Backoff if unrecorded && retry_source == RetrySource::Message => action,
            finished => finished,
        }
    }

    /// Sends what goes before the message that is at hand. Nobody else keeps it where it dies.
    async fn send_deferred(&self, deferred: &Delivery, context: MessageContext) -> MessageAction {
        // It goes first because it has not ended: what died in it before is over, and no letter that a person took out.
        let context = MessageContext { redriven_until: Timestamp::UNIX_EPOCH, ..context };
        let AttemptOutcome { action, unrecorded } =
            attempt(&self.deliverer, &self.ledger, &self.clock, deferred, context).await;
        if unrecorded {
            // Its own message is still to come, and would send it after the others. So it keeps its place before them: should
            // it be sent again, it overwrites nothing.
            return MessageAction::Backoff;
        }
        let dead_letter = match action {
            MessageAction::DeadLetter(failure) => Some((deferred.clone(), failure)),
            MessageAction::DeadLetterConflict(failure) => Some((deferred.as_conflict(), failure)),
            _ => None,
        };
        if let Some((dead_letter, failure)) = dead_letter {
            if let Err(error) = self.fast_path.dead_letter(&dead_letter, failure).await {
                error!(delivery.id = %deferred.id, %error, "a dead letter cannot be stored");
                return MessageAction::Backoff;
            }
            self.mark_in_dlq(&dead_letter, failure).await;
        }
        self.finish_if_ended(deferred, action, context).await
    }

    async fn finish_if_ended(
        &self,
        delivery: &Delivery,
        action: MessageAction,
        context: MessageContext,
    ) -> MessageAction {
        if action.is_final() { self.finish(delivery, action, context).await } else { action }
    }

    async fn finish(&self, delivery: &Delivery, action: MessageAction, context: MessageContext) -> MessageAction {
        let finish = self.fast_path.finish(delivery, matches!(action, MessageAction::Delivered { .. }));
        let timed_out = || StoreError("the time of the worker is over".to_owned());
        let result = tokio::time::timeout_at(context.deadline, finish).await.unwrap_or_else(|_| Err(timed_out()));
        match result {
            Ok(()) => action,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the lane cannot be left");
                MessageAction::Backoff
            }
        }
    }
}

/// What would send a delivery again of which nothing can be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetrySource {
    /// Its message, and nothing else.
    Message,
    /// The lane, which has it as the one that goes first.
    Lock,
}

/// What came of trying.
struct AttemptOutcome {
    action: MessageAction,
    /// The far end has it, and that could not be recorded.
    unrecorded: bool,
}

impl From<MessageAction> for AttemptOutcome {
    fn from(action: MessageAction) -> Self {
        Self { action, unrecorded: false }
    }
}

async fn attempt<W: Deliver, A: Clock>(
    deliverer: &W,
    ledger: &Ledger,
    clock: &A,
    delivery: &Delivery,
    context: MessageContext,
) -> AttemptOutcome {
    let attempt_id = clock.new_id();
    let history = match ledger.begin_attempt(delivery, &attempt_id, context.redriven_until, clock.now()).await {
        Ok(BeginAttempt::Proceed(history)) => history,
        Ok(BeginAttempt::AlreadyDelivered) => {
            DeliveryEvent::for_delivery(delivery, EventOutcome::Duplicate).emit();
            return MessageAction::Delivered { waited: None }.into();
        }
        Ok(BeginAttempt::NotBefore(at)) => return MessageAction::RetryAt(at).into(),
        Ok(BeginAttempt::AlreadyDead(prior)) => return to_dead_letter(prior, MessageAction::DeadLetter).into(),
        Ok(BeginAttempt::Conflict) => return dead_letter_conflict(ledger, clock, delivery, context).await.into(),
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "the ledger cannot be written: nothing is sent");
            return MessageAction::Backoff.into();
        }
    };
    let result = deliverer.deliver(delivery, history).await;
    let waited =
        history.held_since.map(|_| BlockedOn::Operator).or(history.failing_since.map(|_| BlockedOn::Destination));
    if result == AttemptResult::Delivered {
        let recorded = record_delivered(ledger, clock, delivery, &attempt_id, context.deadline).await;
        return AttemptOutcome { action: MessageAction::Delivered { waited }, unrecorded: !recorded };
    }
    let now = clock.now();
    let attempts = match ledger.finish_attempt(&delivery.id, &attempt_id, result, now).await {
        Ok(Some(attempts)) => attempts,
        Ok(None) => {
            warn!(delivery.id = %delivery.id, "another attempt was begun meanwhile, and what it comes to counts");
            return MessageAction::Later.into();
        }
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "the end of an attempt cannot be recorded");
            return MessageAction::Backoff.into();
        }
    };
    let action = match result {
        AttemptResult::Delivered => MessageAction::Delivered { waited },
        AttemptResult::DeadLetter(reason) => MessageAction::DeadLetter(FailureInfo { reason, attempts, at: now }),
        AttemptResult::RetryAt { at, no_early_retry: true, .. } => MessageAction::RetryAt(at),
        AttemptResult::RetryAt { at, no_early_retry: false, .. } => MessageAction::Defer(at, BlockedOn::Destination),
        AttemptResult::HoldUntil { at, .. } => MessageAction::Defer(at, BlockedOn::Operator),
    };
    action.into()
}

/// Records that the far end has a delivery: again and again, because it must not be sent again for want of a record. A part of
/// the time is left for the lane. Whether it is recorded.
async fn record_delivered<A: Clock>(
    ledger: &Ledger,
    clock: &A,
    delivery: &Delivery,
    attempt_id: &str,
    deadline: Instant,
) -> bool {
    let recorded = async {
        let mut attempts = 0;
        while let Err(error) =
            ledger.finish_attempt(&delivery.id, attempt_id, AttemptResult::Delivered, clock.now()).await
        {
            attempts += 1;
            error!(delivery.id = %delivery.id, attempts, %error, "the end of an attempt cannot be recorded");
            tokio::time::sleep(retry::retry_delay(attempts, None, clock.random())).await;
        }
    };
    let remaining = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(remaining * 3 / 4, recorded).await.is_ok()
}

/// Ends a delivery without an attempt: on record first, so that an event that is run again is stored anew.
async fn dead_letter_unattempted<A: Clock>(
    ledger: &Ledger,
    clock: &A,
    delivery: &Delivery,
    context: MessageContext,
    code: ReasonCode,
) -> MessageAction {
    match ledger.mark_dead(delivery, context.redriven_until, Reason::without_status(code), clock.now()).await {
        Ok(DeadLettered::Marked(death)) => {
            log_dead(delivery, death);
            MessageAction::DeadLetter(death)
        }
        Ok(DeadLettered::AlreadyDelivered) => MessageAction::Delivered { waited: None },
        Ok(DeadLettered::AlreadyDeadLettered(prior)) => to_dead_letter(prior, MessageAction::DeadLetter),
        Ok(DeadLettered::Conflict) => dead_letter_conflict(ledger, clock, delivery, context).await,
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "a dead letter cannot be recorded");
            MessageAction::Backoff
        }
    }
}

/// Ends another body under a known id, under an id of its own: what is known of the first one stays.
async fn dead_letter_conflict<A: Clock>(
    ledger: &Ledger,
    clock: &A,
    delivery: &Delivery,
    context: MessageContext,
) -> MessageAction {
    let reason = Reason::without_status(ReasonCode::IdConflict);
    match ledger.mark_dead(&delivery.as_conflict(), context.redriven_until, reason, clock.now()).await {
        Ok(DeadLettered::Marked(death)) => {
            log_dead(delivery, death);
            MessageAction::DeadLetterConflict(death)
        }
        Ok(DeadLettered::AlreadyDeadLettered(prior)) => to_dead_letter(prior, MessageAction::DeadLetterConflict),
        // The same other body was kept before, and a person has sent it since.
        Ok(DeadLettered::AlreadyDelivered | DeadLettered::Conflict) => MessageAction::Delivered { waited: None },
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "a dead letter cannot be recorded");
            MessageAction::Backoff
        }
    }
}

/// What becomes of the message of something that died before: its letter is stored once more where it may be missing.
fn to_dead_letter(prior: PriorDeath, to_action: impl FnOnce(FailureInfo) -> MessageAction) -> MessageAction {
    if prior.in_dlq { MessageAction::Drop } else { to_action(prior.info) }
}

async fn mark_in_dlq<A: Clock>(ledger: &Ledger, clock: &A, delivery: &Delivery, failure: FailureInfo) {
    if let Err(error) = ledger.in_dlq(&delivery.id, failure, clock.now()).await {
        // Should its message come once more, it is stored once more.
        warn!(delivery.id = %delivery.id, %error, "a dead letter that is stored could not be recorded as such");
    }
}

/// Tells of a death that no attempt tells of.
fn log_dead(delivery: &Delivery, failure: FailureInfo) {
    let FailureInfo { reason, attempts, .. } = failure;
    DeliveryEvent {
        reason: Some(reason),
        attempts,
        ..DeliveryEvent::for_delivery(delivery, EventOutcome::DeadLettered)
    }
    .emit();
}
