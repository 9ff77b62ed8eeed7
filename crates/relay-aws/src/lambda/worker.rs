//! What is done with one message: the ledger is asked first and told afterwards.

use jiff::Timestamp;
use relay::ports::clock::Ambient;
use relay::ports::queue::{Attempt, StoreFault};
use relay::rate_limit::limiter::Readiness;
use relay::telemetry::event::{Became, Signal};
use relay_core::delivery::{Delivery, Disposition, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::lambda::batch::{Fate, Handed, MessageWorker};
use crate::ledger::attempts::{Begun, Buried, Died};
use crate::ledger::contact_lock::{AwsLane, Before};
use crate::ledger::deliveries::Ledger;
use crate::sqs::dead_letter::Death;
use crate::sqs::early_release::{Parking, WaitsFor};

/// A worker of the queue to Clay.
#[derive(Debug)]
pub struct ClayWorker<W, A> {
    /// One try of a delivery.
    pub attempt: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// What is hidden until its time.
    pub parking: Parking,
    /// Time and chance.
    pub ambient: A,
}

impl<W: Attempt, A: Ambient> MessageWorker for ClayWorker<W, A> {
    async fn work(&self, delivery: &Delivery, handed: Handed) -> Fate {
        // What cannot be recorded as delivered has no message any more, and so nobody sends it again.
        try_once(&self.attempt, &self.ledger, &self.ambient, delivery, handed).await.fate
    }

    async fn give_up(&self, delivery: &Delivery, handed: Handed) -> Fate {
        bury(&self.ledger, &self.ambient, delivery, handed, ReasonCode::GivenUp).await
    }

    async fn kept(&self, delivery: &Delivery, death: Death) {
        kept(&self.ledger, &self.ambient, delivery, death).await;
    }

    fn readiness(&self) -> Readiness {
        self.attempt.readiness()
    }

    async fn park(&self, delivery: &Delivery, waits_for: WaitsFor, receipt: &str) {
        let end = self.attempt.readiness();
        self.parking.park(&self.ledger, &self.ambient, delivery, waits_for, end, receipt).await;
    }

    async fn freed_by(&self, delivery: &Delivery, waited: Option<WaitsFor>) -> Vec<String> {
        self.parking.freed_by(&self.ledger, delivery, waited).await
    }

    async fn freed_by_mending(&self) -> Vec<String> {
        self.parking.freed_by_mending(&self.ledger, &self.ambient).await
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
    pub lane: AwsLane<A>,
    /// What is hidden until its time.
    pub parking: Parking,
    /// Time and chance.
    pub ambient: A,
}

impl<W: Attempt, A: Ambient> MessageWorker for LoopsWorker<W, A> {
    async fn work(&self, delivery: &Delivery, handed: Handed) -> Fate {
        match self.lane.before(delivery).await {
            Ok(Before::Clear) => self.send(delivery, handed, Keeps::Message).await,
            Ok(Before::Itself) => self.send(delivery, handed, Keeps::Lane).await,
            Ok(Before::Held) => {
                Signal::of_work(delivery, Became::Waits).tell();
                Fate::NotYet
            }
            Ok(Before::First(first)) => match self.send_first(&first, handed).await {
                ended if ended.has_ended() && handed.has_time_for_one() => {
                    self.send(delivery, handed, Keeps::Message).await
                }
                // Broken off in the middle of a call, it would be sent once more.
                ended if ended.has_ended() => Fate::NotYet,
                waits => waits,
            },
            Err(fault) => {
                error!(delivery.id = %delivery.id, %fault, "the lane cannot be read");
                Fate::Unable
            }
        }
    }

    async fn give_up(&self, delivery: &Delivery, handed: Handed) -> Fate {
        let fate = bury(&self.ledger, &self.ambient, delivery, handed, ReasonCode::GivenUp).await;
        self.leave_ended(delivery, fate, handed).await
    }

    async fn kept(&self, delivery: &Delivery, death: Death) {
        kept(&self.ledger, &self.ambient, delivery, death).await;
    }

    fn readiness(&self) -> Readiness {
        self.attempt.readiness()
    }

    async fn park(&self, delivery: &Delivery, waits_for: WaitsFor, receipt: &str) {
        let end = self.attempt.readiness();
        self.parking.park(&self.ledger, &self.ambient, delivery, waits_for, end, receipt).await;
    }

    async fn freed_by(&self, delivery: &Delivery, waited: Option<WaitsFor>) -> Vec<String> {
        self.parking.freed_by(&self.ledger, delivery, waited).await
    }

    async fn freed_by_mending(&self) -> Vec<String> {
        self.parking.freed_by_mending(&self.ledger, &self.ambient).await
    }
}

impl<W: Attempt, A: Ambient> LoopsWorker<W, A> {
    async fn send(&self, delivery: &Delivery, handed: Handed, keeps: Keeps) -> Fate {
        let Tried { fate, unrecorded } = try_once(&self.attempt, &self.ledger, &self.ambient, delivery, handed).await;
        match self.leave_ended(delivery, fate, handed).await {
            // Nothing can be recorded: without its message, nobody sends it again. The lane stays closed until a row has
            // ended that came ten minutes later.
            Fate::Unable if unrecorded && keeps == Keeps::Message => fate,
            left => left,
        }
    }

    /// Sends what goes before the message that is at hand. Nobody else keeps it where it dies.
    async fn send_first(&self, first: &Delivery, handed: Handed) -> Fate {
        // It goes first because it has not ended: what died in it before is over, and no letter that a person took out.
        let handed = Handed { outlives: Timestamp::UNIX_EPOCH, ..handed };
        let Tried { fate, unrecorded } = try_once(&self.attempt, &self.ledger, &self.ambient, first, handed).await;
        if unrecorded {
            // Its own message is still to come, and would send it after the others. So it keeps its place before them: should
            // it be sent again, it overwrites nothing.
            return Fate::Unable;
        }
        let letter = match fate {
            Fate::Dead(death) => Some((first.clone(), death)),
            Fate::Conflict(death) => Some((first.conflict(), death)),
            _ => None,
        };
        if let Some((letter, death)) = letter {
            if let Err(fault) = self.lane.bury(&letter, death).await {
                error!(delivery.id = %first.id, %fault, "a dead letter cannot be stored");
                return Fate::Unable;
            }
            self.kept(&letter, death).await;
        }
        self.leave_ended(first, fate, handed).await
    }

    async fn leave_ended(&self, delivery: &Delivery, fate: Fate, handed: Handed) -> Fate {
        if fate.has_ended() { self.leave(delivery, fate, handed).await } else { fate }
    }

    async fn leave(&self, delivery: &Delivery, fate: Fate, handed: Handed) -> Fate {
        let leave = self.lane.leave(delivery, matches!(fate, Fate::Delivered { .. }));
        let late = || StoreFault("the time of the worker is over".to_owned());
        let left = tokio::time::timeout_at(handed.until, leave).await.unwrap_or_else(|_| Err(late()));
        match left {
            Ok(()) => fate,
            Err(fault) => {
                error!(delivery.id = %delivery.id, %fault, "the lane cannot be left");
                Fate::Unable
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
    Lane,
}

/// What came of trying.
struct Tried {
    fate: Fate,
    /// The far end has it, and that could not be recorded.
    unrecorded: bool,
}

impl From<Fate> for Tried {
    fn from(fate: Fate) -> Self {
        Self { fate, unrecorded: false }
    }
}

async fn try_once<W: Attempt, A: Ambient>(
    attempt: &W,
    ledger: &Ledger,
    ambient: &A,
    delivery: &Delivery,
    handed: Handed,
) -> Tried {
    let name = ambient.unique();
    let history = match ledger.begin(delivery, &name, handed.outlives, ambient.now()).await {
        Ok(Begun::Go(history)) => history,
        Ok(Begun::DoneBefore) => {
            Signal::of_work(delivery, Became::Duplicate).tell();
            return Fate::Delivered { waited: None }.into();
        }
        Ok(Begun::NotBefore(at)) => return Fate::Back(at).into(),
        Ok(Begun::DiedBefore(died)) => return letter_of(died, Fate::Dead).into(),
        Ok(Begun::Conflict) => return bury_conflict(ledger, ambient, delivery, handed).await.into(),
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "the ledger cannot be written: nothing is sent");
            return Fate::Unable.into();
        }
    };
    let end = attempt.attempt(delivery, history).await;
    let waited = history.held_since.map(|_| WaitsFor::Person).or(history.failing_since.map(|_| WaitsFor::FarEnd));
    if end == Disposition::Delivered {
        let recorded = record_delivered(ledger, ambient, delivery, &name, handed.until).await;
        return Tried { fate: Fate::Delivered { waited }, unrecorded: !recorded };
    }
    let now = ambient.now();
    let attempts = match ledger.end(&delivery.id, &name, end, now).await {
        Ok(Some(attempts)) => attempts,
        Ok(None) => {
            warn!(delivery.id = %delivery.id, "another attempt was begun meanwhile, and what it comes to counts");
            return Fate::NotYet.into();
        }
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "the end of an attempt cannot be recorded");
            return Fate::Unable.into();
        }
    };
    let fate = match end {
        Disposition::Delivered => Fate::Delivered { waited },
        Disposition::Dead(reason) => Fate::Dead(Death { reason, attempts, at: now }),
        Disposition::TryLater { at, firm: true, .. } => Fate::Back(at),
        Disposition::TryLater { at, firm: false, .. } => Fate::Parked(at, WaitsFor::FarEnd),
        Disposition::Hold { at, .. } => Fate::Parked(at, WaitsFor::Person),
    };
    fate.into()
}

/// Records that the far end has a delivery: again and again, because it must not be sent again for want of a record. A part of
/// the time is left for the lane. Whether it is recorded.
async fn record_delivered<A: Ambient>(
    ledger: &Ledger,
    ambient: &A,
    delivery: &Delivery,
    attempt: &str,
    until: Instant,
) -> bool {
    let recorded = async {
        let mut tries = 0;
        while let Err(fault) = ledger.end(&delivery.id, attempt, Disposition::Delivered, ambient.now()).await {
            tries += 1;
            error!(delivery.id = %delivery.id, tries, %fault, "the end of an attempt cannot be recorded");
            tokio::time::sleep(retry::wait(tries, None, ambient.chance())).await;
        }
    };
    let left = until.saturating_duration_since(Instant::now());
    tokio::time::timeout(left * 3 / 4, recorded).await.is_ok()
}

/// Ends a delivery without an attempt: on record first, so that an event that is run again is stored anew.
async fn bury<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery, handed: Handed, code: ReasonCode) -> Fate {
    match ledger.bury(delivery, handed.outlives, Reason::own(code), ambient.now()).await {
        Ok(Buried::Dead(death)) => {
            tell_dead(delivery, death);
            Fate::Dead(death)
        }
        Ok(Buried::DoneBefore) => Fate::Delivered { waited: None },
        Ok(Buried::DiedBefore(died)) => letter_of(died, Fate::Dead),
        Ok(Buried::Conflict) => bury_conflict(ledger, ambient, delivery, handed).await,
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "a dead letter cannot be recorded");
            Fate::Unable
        }
    }
}

/// Ends another body under a known id, under an id of its own: what is known of the first one stays.
async fn bury_conflict<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery, handed: Handed) -> Fate {
    let reason = Reason::own(ReasonCode::IdConflict);
    match ledger.bury(&delivery.conflict(), handed.outlives, reason, ambient.now()).await {
        Ok(Buried::Dead(death)) => {
            tell_dead(delivery, death);
            Fate::Conflict(death)
        }
        Ok(Buried::DiedBefore(died)) => letter_of(died, Fate::Conflict),
        // The same other body was kept before, and a person has sent it since.
        Ok(Buried::DoneBefore | Buried::Conflict) => Fate::Delivered { waited: None },
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "a dead letter cannot be recorded");
            Fate::Unable
        }
    }
}

/// What becomes of the message of something that died before: its letter is stored once more where it may be missing.
fn letter_of(died: Died, fate: impl FnOnce(Death) -> Fate) -> Fate {
    if died.kept { Fate::Buried } else { fate(died.death) }
}

async fn kept<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery, death: Death) {
    if let Err(fault) = ledger.kept(&delivery.id, death, ambient.now()).await {
        // Should its message come once more, it is stored once more.
        warn!(delivery.id = %delivery.id, %fault, "a dead letter that is stored could not be recorded as such");
    }
}

/// Tells of a death that no attempt tells of.
fn tell_dead(delivery: &Delivery, death: Death) {
    let Death { reason, attempts, .. } = death;
    Signal { reason: Some(reason), attempts, ..Signal::of_work(delivery, Became::Dead) }.tell();
}
