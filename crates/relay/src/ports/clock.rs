//! Time and chance, as handlers take them: from outside, so that tests can hold both still.

use jiff::Timestamp;

/// What a handler needs of the world around it, besides the ports.
pub trait Clock: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// A number in 0..1, another one each time.
    fn random(&self) -> f64;

    /// A text that was never given before: letters and digits, at most 40.
    fn new_id(&self) -> String;
}

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

impl<A: Clock + ?Sized> Clock for std::sync::Arc<A> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn random(&self) -> f64 {
        (**self).random()
    }

    fn new_id(&self) -> String {
        (**self).new_id()
    }
}
