//! What is done with one message: the ledger is asked first and told afterwards.

use relay::ambient::Ambient;
use relay::store::Attempt;
use relay_core::delivery::{Delivery, Direction, Disposition, Reason, ReasonCode};
use tracing::{error, warn};

use crate::batch::{Fate, MessageWorker};
use crate::lane::{AwsLane, Before};
use crate::ledger::{Begun, Ledger};

/// A worker of the queue to Clay.
#[derive(Debug)]
pub struct ClayWorker<W, A> {
    /// One try of a delivery.
    pub attempt: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// Time and chance.
    pub ambient: A,
}

impl<W: Attempt, A: Ambient> MessageWorker for ClayWorker<W, A> {
    async fn work(&self, delivery: &Delivery) -> Fate {
        try_once(&self.attempt, &self.ledger, &self.ambient, delivery).await
    }

    async fn hold(&self, delivery: &Delivery, receipt: &str) {
        note_held(&self.ledger, &self.ambient, delivery, receipt).await;
    }

    async fn held(&self) -> Vec<String> {
        receipts(&self.ledger, Direction::LoopsToClay).await
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
    /// Time and chance.
    pub ambient: A,
}

impl<W: Attempt, A: Ambient> MessageWorker for LoopsWorker<W, A> {
    async fn work(&self, delivery: &Delivery) -> Fate {
        match self.lane.before(delivery).await {
            Ok(Before::Clear) => self.send(delivery).await,
            Ok(Before::Held) => Fate::NotYet,
            Ok(Before::First(first)) => match self.send(&first).await {
                // Where it died: its own message, which is behind this one, takes it to the dead letters.
                Fate::Ended(_) | Fate::Freed => self.send(delivery).await,
                waits => waits,
            },
            Err(fault) => {
                error!(delivery.id = %delivery.id, %fault, "the lane cannot be read");
                Fate::Unable
            }
        }
    }

    async fn hold(&self, delivery: &Delivery, receipt: &str) {
        note_held(&self.ledger, &self.ambient, delivery, receipt).await;
    }

    async fn held(&self) -> Vec<String> {
        receipts(&self.ledger, Direction::ClayToLoops).await
    }
}

impl<W: Attempt, A: Ambient> LoopsWorker<W, A> {
    async fn send(&self, delivery: &Delivery) -> Fate {
        let fate = try_once(&self.attempt, &self.ledger, &self.ambient, delivery).await;
        if let Fate::Ended(_) | Fate::Freed = fate
            && let Err(fault) = self.lane.leave(delivery).await
        {
            error!(delivery.id = %delivery.id, %fault, "the lane cannot be left");
            return Fate::Unable;
        }
        fate
    }
}

async fn try_once<W: Attempt, A: Ambient>(attempt: &W, ledger: &Ledger, ambient: &A, delivery: &Delivery) -> Fate {
    let history = match ledger.begin(delivery, ambient.now()).await {
        Ok(Begun::Go(history)) => history,
        Ok(Begun::DoneBefore) => return Fate::Ended(Disposition::Delivered),
        Ok(Begun::NotBefore(at)) => return Fate::Back(at),
        Ok(Begun::Conflict) => return Fate::Ended(Disposition::Dead(Reason::own(ReasonCode::IdConflict))),
        Err(fault) => {
            error!(delivery.id = %delivery.id, %fault, "the ledger cannot be written: nothing is sent");
            return Fate::Unable;
        }
    };
    let end = attempt.attempt(delivery, history).await;
    if let Err(fault) = ledger.end(&delivery.id, end, ambient.now()).await {
        error!(delivery.id = %delivery.id, %fault, "the end of an attempt cannot be recorded");
        // What was delivered is not sent again for the sake of a record.
        if end != Disposition::Delivered {
            return Fate::Unable;
        }
    }
    match end {
        Disposition::Delivered if history.held_since.is_some() => Fate::Freed,
        Disposition::Delivered | Disposition::Dead(_) => Fate::Ended(end),
        Disposition::TryLater { at, .. } => Fate::Back(at),
        Disposition::Hold { at, .. } => Fate::Held(at),
    }
}

async fn note_held<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery, receipt: &str) {
    if let Err(fault) = ledger.hold(delivery, receipt, ambient.now()).await {
        // It comes back by itself, only later.
        warn!(delivery.id = %delivery.id, %fault, "what is held could not be noted");
    }
}

async fn receipts(ledger: &Ledger, direction: Direction) -> Vec<String> {
    ledger.held(direction).await.unwrap_or_else(|fault| {
        warn!(%fault, "what is held could not be listed: it comes back by itself");
        Vec::new()
    })
}
