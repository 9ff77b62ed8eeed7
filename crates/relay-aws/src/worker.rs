//! What is done with one message: the ledger is asked first and told afterwards.

use relay::ambient::Ambient;
use relay::pace::Readiness;
use relay::signal::{Became, Signal};
use relay::store::Attempt;
use relay_core::delivery::{Delivery, Disposition, Reason, ReasonCode};
use tracing::error;

use crate::attempts::{Begun, Buried};
use crate::batch::{Fate, MessageWorker};
use crate::dead_letter::Death;
use crate::lane::{AwsLane, Before};
use crate::ledger::Ledger;
use crate::parking::{Parking, WaitsFor};

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
    async fn work(&self, delivery: &Delivery) -> Fate {
        try_once(&self.attempt, &self.ledger, &self.ambient, delivery).await
    }

    async fn give_up(&self, delivery: &Delivery) -> Fate {
        bury(&self.ledger, &self.ambient, delivery, ReasonCode::GivenUp).await
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
    async fn work(&self, delivery: &Delivery) -> Fate {
        match self.lane.before(delivery).await {
            Ok(Before::Clear) => self.send(delivery).await,
            Ok(Before::Held) => {
                Signal::of_work(delivery, Became::Waits).tell();
                Fate::NotYet
            }
            Ok(Before::First(first)) => match self.send_first(&first).await {
                Fate::Delivered { .. } | Fate::Dead(_) | Fate::Conflict(_) => self.send(delivery).await,
                waits => waits,
            },
            Err(fault) => {
                error!(delivery.id = %delivery.id, %fault, "the lane cannot be read");
                Fate::Unable
            }
        }
    }

    async fn give_up(&self, delivery: &Delivery) -> Fate {
        let fate = bury(&self.ledger, &self.ambient, delivery, ReasonCode::GivenUp).await;
        self.leave_ended(delivery, fate).await
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
}

impl<W: Attempt, A: Ambient> LoopsWorker<W, A> {
    async fn send(&self, delivery: &Delivery) -> Fate {
        let fate = try_once(&self.attempt, &self.ledger, &self.ambient, delivery).await;
        self.leave_ended(delivery, fate).await
    }

    /// Sends what goes before the message that is at hand. Nobody else keeps it where it dies.
    async fn send_first(&self, first: &Delivery) -> Fate {
        let fate = try_once(&self.attempt, &self.ledger, &self.ambient, first).await;
        let buried = match fate {
            Fate::Dead(death) => self.lane.bury(first, death).await,
            Fate::Conflict(death) => self.lane.bury(&first.conflict(), death).await,
            _ => Ok(()),
        };
        if let Err(fault) = buried {
            error!(delivery.id = %first.id, %fault, "a dead letter cannot be stored");
            return Fate::Unable;
        }
        self.leave_ended(first, fate).await
    }

    async fn leave_ended(&self, delivery: &Delivery, fate: Fate) -> Fate {
        match fate {
            Fate::Delivered { .. } | Fate::Dead(_) | Fate::Conflict(_) => self.leave(delivery, fate).await,
            waits => waits,
        }
    }

    async fn leave(&self, delivery: &Delivery, fate: Fate) -> Fate {
        match self.lane.leave(delivery, matches!(fate, Fate::Delivered { .. })).await {
            Ok(()) => fate,
            Err(fault) => {
                error!(delivery.id = %delivery.id, %fault, "the lane cannot be left");
                Fate::Unable
            }
        }
    }
}

async fn try_once<W: Attempt, A: Ambient>(attempt: &W, ledger: &Ledger, ambient: &A, delivery: &Delivery) -> Fate {
    let history = match ledger.begin(delivery, ambient.now()).await {
        Ok(Begun::Go(history)) => history,
        Ok(Begun::DoneBefore) => {
            Signal::of_work(delivery, Became::Duplicate).tell();
            return Fate::Delivered { waited: None };
        }
        Ok(Begun::NotBefore(at)) => return Fate::Back(at),
        Ok(Begun::Conflict) => return bury_conflict(ledger, ambient, delivery).await,
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "the ledger cannot be written: nothing is sent");
            return Fate::Unable;
        }
    };
    let end = attempt.attempt(delivery, history).await;
    let now = ambient.now();
    let attempts = match ledger.end(&delivery.id, end, now).await {
        Ok(attempts) => attempts,
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "the end of an attempt cannot be recorded");
            // What was delivered is not sent again for the sake of a record.
            if end != Disposition::Delivered {
                return Fate::Unable;
            }
            0
        }
    };
    let waited = history.held_since.map(|_| WaitsFor::Person).or(history.failing_since.map(|_| WaitsFor::FarEnd));
    match end {
        Disposition::Delivered => Fate::Delivered { waited },
        Disposition::Dead(reason) => Fate::Dead(Death { reason, attempts, at: now }),
        Disposition::TryLater { at, firm: true, .. } => Fate::Back(at),
        Disposition::TryLater { at, firm: false, .. } => Fate::Parked(at, WaitsFor::FarEnd),
        Disposition::Hold { at, .. } => Fate::Parked(at, WaitsFor::Person),
    }
}

/// Ends a delivery without an attempt: on record first, so that an event that is run again is stored anew.
async fn bury<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery, code: ReasonCode) -> Fate {
    match ledger.bury(delivery, Reason::own(code), ambient.now()).await {
        Ok(Buried::Dead(death)) => {
            tell_dead(delivery, death);
            Fate::Dead(death)
        }
        Ok(Buried::DoneBefore) => Fate::Delivered { waited: None },
        Ok(Buried::Conflict) => bury_conflict(ledger, ambient, delivery).await,
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "a dead letter cannot be recorded");
            Fate::Unable
        }
    }
}

/// Ends another body under a known id, under an id of its own: what is known of the first one stays.
async fn bury_conflict<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery) -> Fate {
    match ledger.bury(&delivery.conflict(), Reason::own(ReasonCode::IdConflict), ambient.now()).await {
        Ok(Buried::Dead(death)) => {
            tell_dead(delivery, death);
            Fate::Conflict(death)
        }
        // The same other body was kept before, and a person has sent it since.
        Ok(Buried::DoneBefore | Buried::Conflict) => Fate::Delivered { waited: None },
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "a dead letter cannot be recorded");
            Fate::Unable
        }
    }
}

/// Tells of a death that no attempt tells of.
fn tell_dead(delivery: &Delivery, death: Death) {
    let Death { reason, attempts, .. } = death;
    Signal { reason: Some(reason), attempts, ..Signal::of_work(delivery, Became::Dead) }.tell();
}
