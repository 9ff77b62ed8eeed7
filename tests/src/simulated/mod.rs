//! The relay of one machine inside a test's process: its handlers, its store and its workers, between far ends that are
//! ports and no sockets, so that tokio's paused clock moves all of it. Days pass in seconds.

pub mod end;
pub mod local;

use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use relay::ambient::Ambient;
use tokio::time::Instant;

/// When the simulation begins.
const BEGINNING: Timestamp = Timestamp::constant(1_734_425_918, 0);

/// The time that tokio's clock says, and chance from a seed.
#[derive(Debug)]
pub struct Simulated {
    /// How long the simulation had run when this runtime's clock began.
    before: Duration,
    began: Instant,
    chance: Mutex<Rng>,
}

impl Simulated {
    /// The world as it is after that long.
    #[must_use]
    pub fn after(before: Duration, seed: u64) -> Self {
        Self { before, began: Instant::now(), chance: Mutex::new(Rng::with_seed(seed)) }
    }

    /// How long the simulation has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    fn rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.chance.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Ambient for Simulated {
    fn now(&self) -> Timestamp {
        BEGINNING + SignedDuration::try_from(self.elapsed()).unwrap_or_default()
    }

    fn chance(&self) -> f64 {
        self.rng(Rng::f64)
    }

    fn unique(&self) -> String {
        self.rng(|rng| format!("{:032x}", rng.u128(..)))
    }
}
