//! Time and chance, as handlers take them: from outside, so that tests can hold both still.

use jiff::Timestamp;

/// What a handler needs of the world around it, besides the ports.
pub trait Ambient: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// A number in 0..1, another one each time.
    fn chance(&self) -> f64;

    /// A text that was never given before: letters and digits, at most 40.
    fn unique(&self) -> String;
}

/// The machine's clock and its random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Ambient for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn chance(&self) -> f64 {
        // It spreads waits and decides nothing: a generator that is small and quick to start is enough.
        fastrand::f64()
    }

    fn unique(&self) -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }
}

impl<A: Ambient + ?Sized> Ambient for std::sync::Arc<A> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn chance(&self) -> f64 {
        (**self).chance()
    }

    fn unique(&self) -> String {
        (**self).unique()
    }
}
