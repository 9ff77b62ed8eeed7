//! The port to the rate limiter of a destination.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::destination::http_client::DestinationResponse;

/// The longest that a caller's row waits for a permit before it joins the queue: a delay that a Clay user does not notice.
pub const MAX_PERMIT_WAIT: Duration = Duration::from_millis(500);

/// How long a permit may be used after its time. A process that was frozen wakes up with many expired permits, and using
/// all of them at once would be a burst.
pub const PERMIT_TTL: Duration = Duration::from_millis(250);

/// The destination is not called now: for how long, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The destination asked for fewer calls.
    #[error("the destination is full for {} ms", .0.as_millis())]
    Throttled(Duration),
    /// The circuit is open, and another caller probes the destination.
    #[error("the destination is down; it is asked again in {} ms", .0.as_millis())]
    CircuitOpen(Duration),
}

/// The right to make one call, from that time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(pub Instant);

impl Permit {
    /// The same permit, not to be used before that time.
    pub fn max(self, at: Instant) -> Self {
        Self(self.0.max(at))
    }

    /// Whether it is too late to use it: its holder acquires another one.
    pub fn is_expired(self) -> bool {
        Instant::now().saturating_duration_since(self.0) > PERMIT_TTL
    }

    /// Waits for its time.
    pub async fn wait(self) {
        tokio::time::sleep_until(self.0).await;
    }
}

/// The rate limiter of one destination, shared by everything that calls it.
pub trait RateLimiter: Send + Sync {
    /// Takes the next permit and waits for its time.
    ///
    /// # Errors
    /// When the destination is not to be called for longer than a moment.
    fn acquire(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Takes the next permit if its time comes within [`MAX_PERMIT_WAIT`] and no caller was rejected a moment ago. The
    /// caller waits for the permit's time itself, so it can lock the contact in between.
    fn try_acquire(&self) -> impl Future<Output = Option<Permit>> + Send;

    /// Stops all calls for that long: the destination asked for it.
    fn throttle_for(&self, throttle_for: Duration) -> impl Future<Output = ()> + Send;

    /// Records the response to a call. Failures open the circuit, and a quota that other clients use up slows calls down.
    fn record(&self, response: &DestinationResponse) -> impl Future<Output = ()> + Send;

    /// Whether a worker may begin an attempt, as far as this process knows without asking a store.
    fn readiness(&self) -> Readiness;

    /// Whether the destination has accepted something within that period, as far as this process knows.
    fn succeeded_within(&self, period: Duration) -> bool;
}

/// Whether a worker may begin an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Ready,
    /// It may try one delivery, as a probe of a destination that was down.
    HalfOpen,
    /// It may not.
    Unavailable(Unavailable),
}
