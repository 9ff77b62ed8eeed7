//! Time, chance, secrets and pace, all held still.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay::destination::http_client::DestinationResponse;
use relay::ports::clock::Clock;
use relay::ports::rate_limiter::{Permit, RateLimiter, Readiness, Unavailable};
use relay::ports::secrets::{SecretError, SecretField, SecretSource};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;

/// When everything happens.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_734_425_918).unwrap()
}

/// That long before.
pub(crate) fn ago(time: SignedDuration) -> Timestamp {
    now().checked_sub(time).unwrap()
}

/// That long after, in seconds.
pub(crate) fn in_seconds(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

/// A clock that stands, a coin that lands on its edge, and ids in a row.
#[derive(Debug, Default)]
pub(crate) struct FixedClock(AtomicUsize);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        now()
    }

    fn random(&self) -> f64 {
        0.5
    }

    fn new_id(&self) -> String {
        format!("u{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A secret that may change when it is read again, or not be readable.
#[derive(Debug)]
pub(crate) struct FakeSecrets<T> {
    current: Option<Arc<T>>,
    refreshed: Option<Arc<T>>,
    refreshes: AtomicUsize,
}

impl<T> FakeSecrets<T> {
    /// A secret that stays.
    pub(crate) fn new(secret: T) -> Self {
        let secret = Arc::new(secret);
        Self { current: Some(Arc::clone(&secret)), refreshed: Some(secret), refreshes: AtomicUsize::new(0) }
    }

    /// A secret that is another one when it is read again.
    pub(crate) fn rotating(current: T, refreshed: T) -> Self {
        Self { refreshed: Some(Arc::new(refreshed)), ..Self::new(current) }
    }

    /// A secret that cannot be read again.
    pub(crate) fn failing_refresh(current: T) -> Self {
        Self { refreshed: None, ..Self::new(current) }
    }

    /// A secret that cannot be read at all.
    pub(crate) fn unavailable() -> Self {
        Self { current: None, refreshed: None, refreshes: AtomicUsize::new(0) }
    }

    /// How often it was read again.
    pub(crate) fn refreshes(&self) -> usize {
        self.refreshes.load(Ordering::Relaxed)
    }
}

impl<T: Send + Sync> SecretSource<T> for FakeSecrets<T> {
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        self.current.clone().ok_or(SecretError)
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
        self.refreshed.clone().ok_or(SecretError)
    }

    fn describe_field(&self, field: SecretField) -> String {
        format!("the document's {field:?}")
    }
}

/// A rate limiter that always, or never, gives a permit, and records throttles and results.
#[derive(Debug, Default)]
pub(crate) struct FakeRateLimiter {
    exhausted: bool,
    /// Whether who waits for room waits on.
    never_acquires: bool,
    /// How many turns there are, if not any number.
    permits: Option<usize>,
    permits_taken: AtomicUsize,
    /// How long ago its end took something.
    pub(crate) last_success_ago: Option<Duration>,
    acquires: AtomicUsize,
    throttles: Mutex<Vec<Duration>>,
    recorded: Mutex<Vec<CallOutcome>>,
}

impl FakeRateLimiter {
    /// One without room for who does not wait.
    pub(crate) fn exhausted() -> Self {
        Self { exhausted: true, ..Self::default() }
    }

    /// One that has no room at all.
    pub(crate) fn never_acquiring() -> Self {
        Self { never_acquires: true, ..Self::exhausted() }
    }

    /// One with so many turns for who does not wait.
    pub(crate) fn with_permits(turns: usize) -> Self {
        Self { permits: Some(turns), ..Self::default() }
    }

    /// How many turns were taken.
    pub(crate) fn permits_taken(&self) -> usize {
        self.permits_taken.load(Ordering::Relaxed)
    }

    /// How often somebody waited for room.
    pub(crate) fn acquires(&self) -> usize {
        self.acquires.load(Ordering::Relaxed)
    }

    /// What came of calls.
    pub(crate) fn recorded(&self) -> Vec<CallOutcome> {
        self.recorded.lock().unwrap().clone()
    }

    /// The pauses.
    pub(crate) fn throttles(&self) -> Vec<Duration> {
        self.throttles.lock().unwrap().clone()
    }
}

impl RateLimiter for FakeRateLimiter {
    async fn acquire(&self) -> Result<(), Unavailable> {
        self.acquires.fetch_add(1, Ordering::Relaxed);
        if self.never_acquires {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn try_acquire(&self) -> Option<Permit> {
        if self.exhausted || self.permits.is_some_and(|permits| self.permits_taken() >= permits) {
            return None;
        }
        self.permits_taken.fetch_add(1, Ordering::Relaxed);
        Some(Permit(tokio::time::Instant::now()))
    }

    async fn throttle_for(&self, pause: Duration) {
        self.throttles.lock().unwrap().push(pause);
    }

    async fn record(&self, response: &DestinationResponse) {
        self.recorded.lock().unwrap().push(response.outcome);
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    fn succeeded_within(&self, period: Duration) -> bool {
        self.last_success_ago.is_some_and(|ago| ago < period)
    }
}

/// A delivery about Ada.
pub(crate) fn delivery(kind: DeliveryKind, body: &'static str) -> Delivery {
    Delivery {
        id: DeliveryId::random("1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: now(),
        kind,
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// A reason with the destination's status.
pub(crate) const fn reason_with_status(code: ReasonCode, status: u16) -> Reason {
    Reason { code, status: Some(status) }
}
