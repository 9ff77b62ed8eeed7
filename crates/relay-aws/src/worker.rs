//! What is done with one message: the ledger is asked first and told afterwards.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relay::ambient::Ambient;
use relay::pace::Readiness;
use relay::store::Attempt;
use relay_core::delivery::{Delivery, Direction, Disposition, Reason, ReasonCode};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::batch::{Fate, MessageWorker};
use crate::lane::{AwsLane, Before};
use crate::ledger::{Begun, Ledger};

/// How often a worker looks for parked deliveries while they get through: about as long as a page of them takes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A worker of the queue to Clay.
#[derive(Debug)]
pub struct ClayWorker<W, A> {
    /// One try of a delivery.
    pub attempt: W,
    /// What is known of it.
    pub ledger: Ledger,
    /// When parked deliveries are shown.
    pub freeing: Freeing,
    /// Time and chance.
    pub ambient: A,
}

impl<W: Attempt, A: Ambient> MessageWorker for ClayWorker<W, A> {
    async fn work(&self, delivery: &Delivery) -> Fate {
        try_once(&self.attempt, &self.ledger, &self.freeing, &self.ambient, delivery).await
    }

    fn readiness(&self) -> Readiness {
        self.attempt.readiness()
    }

    async fn park(&self, delivery: &Delivery, receipt: &str) {
        park(&self.ledger, &self.ambient, delivery, receipt).await;
    }

    async fn parked(&self) -> Vec<String> {
        self.freeing.receipts(&self.ledger, Direction::LoopsToClay).await
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
    /// When parked deliveries are shown.
    pub freeing: Freeing,
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

    fn readiness(&self) -> Readiness {
        self.attempt.readiness()
    }

    async fn park(&self, delivery: &Delivery, receipt: &str) {
        park(&self.ledger, &self.ambient, delivery, receipt).await;
    }

    async fn parked(&self) -> Vec<String> {
        self.freeing.receipts(&self.ledger, Direction::ClayToLoops).await
    }
}

impl<W: Attempt, A: Ambient> LoopsWorker<W, A> {
    async fn send(&self, delivery: &Delivery) -> Fate {
        let fate = try_once(&self.attempt, &self.ledger, &self.freeing, &self.ambient, delivery).await;
        if let Fate::Ended(_) | Fate::Freed = fate
            && let Err(fault) = self.lane.leave(delivery).await
        {
            error!(delivery.id = %delivery.id, %fault, "the lane cannot be left");
            return Fate::Unable;
        }
        fate
    }
}

async fn try_once<W: Attempt, A: Ambient>(
    attempt: &W,
    ledger: &Ledger,
    freeing: &Freeing,
    ambient: &A,
    delivery: &Delivery,
) -> Fate {
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
    let waited = history.held_since.is_some() || history.failing_since.is_some();
    match end {
        Disposition::Delivered if freeing.begins(waited) => Fate::Freed,
        Disposition::Delivered | Disposition::Dead(_) => Fate::Ended(end),
        // For as long as an end asks to be left alone, it is.
        Disposition::TryLater { at, reason } if reason.code == ReasonCode::FarEndFull => Fate::Back(at),
        Disposition::TryLater { at, .. } | Disposition::Hold { at, .. } => Fate::Parked(at),
    }
}

/// When parked deliveries are shown: as soon as one that had waited gets through, and from then on again and again, until
/// none is left.
#[derive(Debug, Default)]
pub struct Freeing(Mutex<FreeingState>);

#[derive(Debug, Default)]
struct FreeingState {
    /// Whether there were parked deliveries when it was last looked.
    more: bool,
    looked_at: Option<Instant>,
}

impl Freeing {
    /// Whether a delivery that got through is a reason to show others now.
    fn begins(&self, waited: bool) -> bool {
        let mut state = self.lock();
        let just_looked = state.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        let begins = (waited || state.more) && !just_looked;
        if begins {
            state.looked_at = Some(Instant::now());
        }
        begins
    }

    async fn receipts(&self, ledger: &Ledger, direction: Direction) -> Vec<String> {
        let receipts = ledger.parked(direction).await.unwrap_or_else(|fault| {
            warn!(%fault, "what is parked could not be listed: it comes back by itself");
            Vec::new()
        });
        self.lock().more = !receipts.is_empty();
        receipts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FreeingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn park<A: Ambient>(ledger: &Ledger, ambient: &A, delivery: &Delivery, receipt: &str) {
    if let Err(fault) = ledger.park(delivery, receipt, ambient.now()).await {
        // It comes back by itself, only later.
        warn!(delivery.id = %delivery.id, %fault, "what is parked could not be noted");
    }
}
