//! What is done with one message: the ledger is asked first and told afterwards.

use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::queue::{Deliver, StoreError};
use relay::rate_limit::limiter::Readiness;
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
    pub attempt: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// What is hidden until its time.
    pub parking: EarlyRelease,
    /// Time and chance.
    pub ambient: A,
}

impl<W: Deliver, A: Clock> MessageWorker for ClayWorker<W, A> {
    async fn work(&self, delivery: &Delivery, handed: MessageContext) -> MessageAction {
        // What cannot be recorded as delivered has no message any more, and so nobody sends it again.
        attempt(&self.attempt, &self.ledger, &self.ambient, delivery, handed).await.fate
    }

    async fn give_up(&self, delivery: &Delivery, handed: MessageContext) -> MessageAction {
        bury(&self.ledger, &self.ambient, delivery, handed, ReasonCode::Expired).await
    }

    async fn kept(&self, delivery: &Delivery, death: FailureInfo) {
        kept(&self.ledger, &self.ambient, delivery, death).await;
    }

    fn readiness(&self) -> Readiness {
        self.attempt.readiness()
    }

    async fn park(&self, delivery: &Delivery, waits_for: BlockedOn, receipt: &str) {
        let end = self.attempt.readiness();
        self.parking.defer(&self.ledger, &self.ambient, delivery, waits_for, end, receipt).await;
    }

    async fn freed_by(&self, delivery: &Delivery, waited: Option<BlockedOn>) -> Vec<String> {
        self.parking.release_after_success(&self.ledger, delivery, waited).await
    }

    async fn freed_by_mending(&self) -> Vec<String> {
        self.parking.release_after_rotation(&self.ledger, &self.ambient).await
    }
}

/// A worker of the queue to Loops: it minds who has the lane to a contact, and what goes first.
#[derive(Debug)]
pub struct LoopsWorker<W, A> {
    /// One try of a delivery.
    pub attempt: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// The lanes.
    pub lane: ContactFastPath<A>,
    /// What is hidden until its time.
    pub parking: EarlyRelease,
    /// Time and chance.
    pub ambient: A,
}

impl<W: Deliver, A: Clock> MessageWorker for LoopsWorker<W, A> {
    async fn work(&self, delivery: &Delivery, handed: MessageContext) -> MessageAction {
        match self.lane.blocker(delivery).await {
            Ok(Blocker::None) => self.send(delivery, handed, Keeps::Message).await,
            Ok(Blocker::Own) => self.send(delivery, handed, Keeps::Lock).await,
            Ok(Blocker::Locked) => {
                DeliveryEvent::for_delivery(delivery, EventOutcome::Waits).emit();
                MessageAction::Later
            }
            Ok(Blocker::Deferred(first)) => match self.send_deferred(&first, handed).await {
                ended if ended.has_ended() && handed.has_time_for_attempt() => {
                    self.send(delivery, handed, Keeps::Message).await
                }
                // Broken off in the middle of a call, it would be sent once more.
                ended if ended.has_ended() => MessageAction::Later,
                waits => waits,
            },
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the lane cannot be read");
                MessageAction::Backoff
            }
        }
    }

    async fn give_up(&self, delivery: &Delivery, handed: MessageContext) -> MessageAction {
        let fate = bury(&self.ledger, &self.ambient, delivery, handed, ReasonCode::Expired).await;
        self.finish_if_ended(delivery, fate, handed).await
    }

    async fn kept(&self, delivery: &Delivery, death: FailureInfo) {
        kept(&self.ledger, &self.ambient, delivery, death).await;
    }

    fn readiness(&self) -> Readiness {
        self.attempt.readiness()
    }

    async fn park(&self, delivery: &Delivery, waits_for: BlockedOn, receipt: &str) {
        let end = self.attempt.readiness();
        self.parking.defer(&self.ledger, &self.ambient, delivery, waits_for, end, receipt).await;
    }

    async fn freed_by(&self, delivery: &Delivery, waited: Option<BlockedOn>) -> Vec<String> {
        self.parking.release_after_success(&self.ledger, delivery, waited).await
    }

    async fn freed_by_mending(&self) -> Vec<String> {
        self.parking.release_after_rotation(&self.ledger, &self.ambient).await
    }
}

impl<W: Deliver, A: Clock> LoopsWorker<W, A> {
    async fn send(&self, delivery: &Delivery, handed: MessageContext, keeps: Keeps) -> MessageAction {
        let Tried { fate, unrecorded } = attempt(&self.attempt, &self.ledger, &self.ambient, delivery, handed).await;
        match self.finish_if_ended(delivery, fate, handed).await {
            // Nothing can be recorded: without its message, nobody sends it again. The lane stays closed until a row has
            // ended that came ten minutes later.
            MessageAction::Backoff if unrecorded && keeps == Keeps::Message => fate,
            left => left,
        }
    }

    /// Sends what goes before the message that is at hand. Nobody else keeps it where it dies.
    async fn send_deferred(&self, first: &Delivery, handed: MessageContext) -> MessageAction {
        // It goes first because it has not ended: what died in it before is over, and no letter that a person took out.
        let handed = MessageContext { redriven_until: Timestamp::UNIX_EPOCH, ..handed };
        let Tried { fate, unrecorded } = attempt(&self.attempt, &self.ledger, &self.ambient, first, handed).await;
        if unrecorded {
            // Its own message is still to come, and would send it after the others. So it keeps its place before them: should
            // it be sent again, it overwrites nothing.
            return MessageAction::Backoff;
        }
        let letter = match fate {
            MessageAction::Dead(death) => Some((first.clone(), death)),
            MessageAction::Conflict(death) => Some((first.as_conflict(), death)),
            _ => None,
        };
        if let Some((letter, death)) = letter {
            if let Err(error) = self.lane.bury(&letter, death).await {
                error!(delivery.id = %first.id, %error, "a dead letter cannot be stored");
                return MessageAction::Backoff;
            }
            self.kept(&letter, death).await;
        }
        self.finish_if_ended(first, fate, handed).await
    }

    async fn finish_if_ended(&self, delivery: &Delivery, fate: MessageAction, handed: MessageContext) -> MessageAction {
        if fate.has_ended() { self.finish(delivery, fate, handed).await } else { fate }
    }

    async fn finish(&self, delivery: &Delivery, fate: MessageAction, handed: MessageContext) -> MessageAction {
        let leave = self.lane.finish(delivery, matches!(fate, MessageAction::Delivered { .. }));
        let late = || StoreError("the time of the worker is over".to_owned());
        let left = tokio::time::timeout_at(handed.until, leave).await.unwrap_or_else(|_| Err(late()));
        match left {
            Ok(()) => fate,
            Err(error) => {
                error!(delivery.id = %delivery.id, %error, "the lane cannot be left");
                MessageAction::Backoff
            }
        }
    }
}

/// What would send a delivery again of which nothing can be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Its message, and nothing else.
    Message,
    /// The lane, which has it as the one that goes first.
    Lock,
}

/// What came of trying.
struct Tried {
    fate: MessageAction,
    /// The far end has it, and that could not be recorded.
    unrecorded: bool,
}

impl From<MessageAction> for Tried {
    fn from(fate: MessageAction) -> Self {
        Self { fate, unrecorded: false }
    }
}

async fn attempt<W: Deliver, A: Clock>(
    attempt: &W,
    ledger: &Ledger,
    ambient: &A,
    delivery: &Delivery,
    handed: MessageContext,
) -> Tried {
    let name = ambient.new_id();
    let history = match ledger.begin_attempt(delivery, &name, handed.redriven_until, ambient.now()).await {
        Ok(BeginAttempt::Proceed(history)) => history,
        Ok(BeginAttempt::AlreadyDelivered) => {
            DeliveryEvent::for_delivery(delivery, EventOutcome::Duplicate).emit();
            return MessageAction::Delivered { waited: None }.into();
        }
        Ok(BeginAttempt::NotBefore(at)) => return MessageAction::RetryAt(at).into(),
        Ok(BeginAttempt::AlreadyDead(died)) => return to_dead_letter(died, MessageAction::Dead).into(),
        Ok(BeginAttempt::Conflict) => return bury_conflict(ledger, ambient, delivery, handed).await.into(),
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "the ledger cannot be written: nothing is sent");
            return MessageAction::Backoff.into();
        }
    };
    let end = attempt.attempt(delivery, history).await;
    let waited =
        history.held_since.map(|_| BlockedOn::Operator).or(history.failing_since.map(|_| BlockedOn::Destination));
    if end == AttemptResult::Delivered {
        let recorded = record_delivered(ledger, ambient, delivery, &name, handed.until).await;
        return Tried { fate: MessageAction::Delivered { waited }, unrecorded: !recorded };
    }
    let now = ambient.now();
    let attempts = match ledger.finish_attempt(&delivery.id, &name, end, now).await {
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
    let fate = match end {
        AttemptResult::Delivered => MessageAction::Delivered { waited },
        AttemptResult::DeadLetter(reason) => MessageAction::Dead(FailureInfo { reason, attempts, at: now }),
        AttemptResult::RetryAt { at, no_early_retry: true, .. } => MessageAction::RetryAt(at),
        AttemptResult::RetryAt { at, no_early_retry: false, .. } => MessageAction::Defer(at, BlockedOn::Destination),
        AttemptResult::HoldUntil { at, .. } => MessageAction::Defer(at, BlockedOn::Operator),
    };
    fate.into()
}

/// Records that the far end has a delivery: again and again, because it must not be sent again for want of a record. A part of
/// the time is left for the lane. Whether it is recorded.
async fn record_delivered<A: Clock>(
    ledger: &Ledger,
    ambient: &A,
    delivery: &Delivery,
    attempt: &str,
    until: Instant,
) -> bool {
    let recorded = async {
        let mut tries = 0;
        while let Err(error) =
            ledger.finish_attempt(&delivery.id, attempt, AttemptResult::Delivered, ambient.now()).await
        {
            tries += 1;
            error!(delivery.id = %delivery.id, tries, %error, "the end of an attempt cannot be recorded");
            tokio::time::sleep(retry::retry_delay(tries, None, ambient.random())).await;
        }
    };
    let left = until.saturating_duration_since(Instant::now());
    tokio::time::timeout(left * 3 / 4, recorded).await.is_ok()
}

/// Ends a delivery without an attempt: on record first, so that an event that is run again is stored anew.
async fn bury<A: Clock>(
    ledger: &Ledger,
    ambient: &A,
    delivery: &Delivery,
    handed: MessageContext,
    code: ReasonCode,
) -> MessageAction {
    match ledger.mark_dead(delivery, handed.redriven_until, Reason::without_status(code), ambient.now()).await {
        Ok(DeadLettered::Dead(death)) => {
            log_dead(delivery, death);
            MessageAction::Dead(death)
        }
        Ok(DeadLettered::DoneBefore) => MessageAction::Delivered { waited: None },
        Ok(DeadLettered::DiedBefore(died)) => to_dead_letter(died, MessageAction::Dead),
        Ok(DeadLettered::Conflict) => bury_conflict(ledger, ambient, delivery, handed).await,
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "a dead letter cannot be recorded");
            MessageAction::Backoff
        }
    }
}

/// Ends another body under a known id, under an id of its own: what is known of the first one stays.
async fn bury_conflict<A: Clock>(
    ledger: &Ledger,
    ambient: &A,
    delivery: &Delivery,
    handed: MessageContext,
) -> MessageAction {
    let reason = Reason::without_status(ReasonCode::IdConflict);
    match ledger.mark_dead(&delivery.as_conflict(), handed.redriven_until, reason, ambient.now()).await {
        Ok(DeadLettered::Dead(death)) => {
            log_dead(delivery, death);
            MessageAction::Conflict(death)
        }
        Ok(DeadLettered::DiedBefore(died)) => to_dead_letter(died, MessageAction::Conflict),
        // The same other body was kept before, and a person has sent it since.
        Ok(DeadLettered::DoneBefore | DeadLettered::Conflict) => MessageAction::Delivered { waited: None },
        Err(error) => {
            error!(delivery.id = %delivery.id, %error, "a dead letter cannot be recorded");
            MessageAction::Backoff
        }
    }
}

/// What becomes of the message of something that died before: its letter is stored once more where it may be missing.
fn to_dead_letter(died: PriorDeath, fate: impl FnOnce(FailureInfo) -> MessageAction) -> MessageAction {
    if died.kept { MessageAction::Drop } else { fate(died.info) }
}

async fn kept<A: Clock>(ledger: &Ledger, ambient: &A, delivery: &Delivery, death: FailureInfo) {
    if let Err(error) = ledger.in_dlq(&delivery.id, death, ambient.now()).await {
        // Should its message come once more, it is stored once more.
        warn!(delivery.id = %delivery.id, %error, "a dead letter that is stored could not be recorded as such");
    }
}

/// Tells of a death that no attempt tells of.
fn log_dead(delivery: &Delivery, death: FailureInfo) {
    let FailureInfo { reason, attempts, .. } = death;
    DeliveryEvent { reason: Some(reason), attempts, ..DeliveryEvent::for_delivery(delivery, EventOutcome::Dead) }
        .emit();
}
