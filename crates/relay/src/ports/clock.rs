//! The port to time, random numbers and ids, which tests control.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;

/// Time, random numbers and ids.
pub trait Clock: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// A random number in 0..1.
    fn random(&self) -> f64;

    /// A unique text of at most 40 letters and digits.
    fn new_id(&self) -> String;
}

/// A clock that many parts of a program use.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock and its random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self) -> f64 {
        // It spreads waits and decides nothing: a generator that is small and quick to start is enough.
        fastrand::f64()
    }

    fn new_id(&self) -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }
}
