//! Time, chance, secrets and pace, all held still.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay::destination::http_client::DestinationResponse;
use relay::ports::clock::Clock;
use relay::ports::secrets::{SecretError, SecretField, SecretSource};
use relay::rate_limit::limiter::{Permit, RateLimiter, Readiness, Unavailable};
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
pub(crate) struct Still(AtomicUsize);

impl Clock for Still {
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
    known: Option<Arc<T>>,
    read_again: Option<Arc<T>>,
    rereads: AtomicUsize,
}

impl<T> FakeSecrets<T> {
    /// A secret that stays.
    pub(crate) fn of(secret: T) -> Self {
        let secret = Arc::new(secret);
        Self { known: Some(Arc::clone(&secret)), read_again: Some(secret), rereads: AtomicUsize::new(0) }
    }

    /// A secret that is another one when it is read again.
    pub(crate) fn changing(known: T, read_again: T) -> Self {
        Self { read_again: Some(Arc::new(read_again)), ..Self::of(known) }
    }

    /// A secret that cannot be read again.
    pub(crate) fn lost(known: T) -> Self {
        Self { read_again: None, ..Self::of(known) }
    }

    /// A secret that cannot be read at all.
    pub(crate) fn unreadable() -> Self {
        Self { known: None, read_again: None, rereads: AtomicUsize::new(0) }
    }

    /// How often it was read again.
    pub(crate) fn rereads(&self) -> usize {
        self.rereads.load(Ordering::Relaxed)
    }
}

impl<T: Send + Sync> SecretSource<T> for FakeSecrets<T> {
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        self.known.clone().ok_or(SecretError)
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        self.rereads.fetch_add(1, Ordering::Relaxed);
        self.read_again.clone().ok_or(SecretError)
    }

    fn describe_field(&self, field: SecretField) -> String {
        format!("the document's {field:?}")
    }
}

/// A pace that always, or never, has room, and remembers for how long it was asked to pause, and what it was told.
#[derive(Debug, Default)]
pub(crate) struct FakePace {
    full: bool,
    /// How many turns there are, if not any number.
    turns: Option<usize>,
    taken: AtomicUsize,
    /// How long ago its end took something.
    pub(crate) taken_ago: Option<Duration>,
    waits: AtomicUsize,
    pauses: Mutex<Vec<Duration>>,
    notes: Mutex<Vec<CallOutcome>>,
}

impl FakePace {
    /// One without room for who does not wait.
    pub(crate) fn full() -> Self {
        Self { full: true, ..Self::default() }
    }

    /// One with so many turns for who does not wait.
    pub(crate) fn with_turns(turns: usize) -> Self {
        Self { turns: Some(turns), ..Self::default() }
    }

    /// How many turns were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How often somebody waited for room.
    pub(crate) fn waits(&self) -> usize {
        self.waits.load(Ordering::Relaxed)
    }

    /// What came of calls.
    pub(crate) fn notes(&self) -> Vec<CallOutcome> {
        self.notes.lock().unwrap().clone()
    }

    /// The pauses.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }
}

impl RateLimiter for FakePace {
    async fn acquire(&self) -> Result<(), Unavailable> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn try_acquire(&self) -> Option<Permit> {
        if self.full || self.turns.is_some_and(|turns| self.taken() >= turns) {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Permit::at(tokio::time::Instant::now()))
    }

    async fn throttle_for(&self, pause: Duration) {
        self.pauses.lock().unwrap().push(pause);
    }

    async fn record(&self, answer: &DestinationResponse) {
        self.notes.lock().unwrap().push(answer.outcome);
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    fn succeeded_within(&self, period: Duration) -> bool {
        self.taken_ago.is_some_and(|ago| ago < period)
    }
}

/// A delivery about Ada.
pub(crate) fn delivery(cargo: DeliveryKind, body: &'static str) -> Delivery {
    Delivery {
        id: DeliveryId::random("1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: now(),
        kind: cargo,
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// A reason with the far end's status.
pub(crate) const fn because(code: ReasonCode, status: u16) -> Reason {
    Reason { code, status: Some(status) }
}
