//! A clock that a test moves, and a destination with scripted replies.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay::delivery::Deliver;
use relay::ports::clock::Clock;
use relay::ports::rate_limiter::Readiness;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, FinishedAttempt, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::sync::Notify;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
    ids_issued: AtomicU64,
}

impl Default for ManualClock {
    fn default() -> Self {
        // Stores have milliseconds.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default();
        Self { now: Mutex::new(now), ids_issued: AtomicU64::new(0) }
    }
}

impl ManualClock {
    /// Moves it.
    pub fn advance(&self, duration: SignedDuration) {
        let mut now = lock(&self.now);
        *now = now.checked_add(duration).unwrap_or(*now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *lock(&self.now)
    }

    fn random(&self) -> f64 {
        0.5
    }

    fn new_id(&self) -> String {
        format!("u{}x{:x}", self.ids_issued.fetch_add(1, Ordering::Relaxed), rand::random::<u64>())
    }
}

/// What the destination says to what it refuses.
pub const REFUSAL: &str = "This is refused.";

/// Outcome of a delivery at the destination.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// It accepts.
    Accept,
    /// It had accepted it before.
    Duplicate,
    /// It accepts, and never responds.
    AcceptThenHang,
    /// It refuses it for good, and says [`REFUSAL`].
    Reject(u16),
    /// It fails, and asks for so many seconds.
    RetryAfter(u32),
    /// It fails.
    Fail(u16),
    /// An operator has to fix the cause.
    NeedsOperator,
}

/// The destination.
#[derive(Debug, Clone)]
pub struct ScriptedDestination(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<ManualClock>,
    replies: Mutex<(VecDeque<Reply>, Reply)>,
    received: Mutex<Vec<String>>,
    hung: Notify,
}

impl ScriptedDestination {
    /// Creates one that accepts everything.
    #[must_use]
    pub fn new(clock: &Arc<ManualClock>) -> Self {
        let replies = Mutex::new((VecDeque::new(), Reply::Accept));
        Self(Arc::new(Inner { clock: Arc::clone(clock), replies, received: Mutex::default(), hung: Notify::new() }))
    }

    /// Enqueues the next replies.
    pub fn enqueue_replies(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.0.replies).0.extend(replies);
    }

    /// Sets the reply after those.
    pub fn set_default_reply(&self, reply: Reply) {
        lock(&self.0.replies).1 = reply;
    }

    /// The bodies that it got so far.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        lock(&self.0.received).clone()
    }

    /// Waits until a worker waits for a response that never comes.
    pub async fn wait_until_hung(&self) {
        self.0.hung.notified().await;
    }
}

impl Deliver for ScriptedDestination {
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    /// Refuses what is not to be sent again, as the deliverer to Loops does.
    async fn deliver(&self, delivery: &Delivery, history: AttemptHistory) -> FinishedAttempt {
        let now = self.0.clock.now();
        let is_event = delivery.kind.idempotency_key().is_some();
        if is_event && retry::is_resend_unsafe(history.unknown_since, now) {
            let dead = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OutcomeUnknown));
            return FinishedAttempt::new(dead, history, now, false);
        }
        lock(&self.0.received).push(String::from_utf8_lossy(&delivery.body).into_owned());
        let reply = {
            let mut replies = lock(&self.0.replies);
            replies.0.pop_front().unwrap_or(replies.1)
        };
        let failure_reason = |status| Reason { code: ReasonCode::DestinationFailed, status };
        let (result, outcome_unknown) = match reply {
            Reply::Accept | Reply::Duplicate => (AttemptResult::Delivered, false),
            Reply::AcceptThenHang => {
                self.0.hung.notify_one();
                std::future::pending().await
            }
            Reply::Reject(status) => {
                (AttemptResult::DeadLetter(Reason { code: ReasonCode::ClayRejected, status: Some(status) }), false)
            }
            Reply::RetryAfter(seconds) => {
                let retry_after = Some(std::time::Duration::from_secs(seconds.into()));
                let reason = Reason::without_status(ReasonCode::TimedOut);
                (retry::retry_or_dead_letter(history, reason, retry_after, now, 0.5), true)
            }
            Reply::Fail(status) => {
                let result = retry::retry_or_dead_letter(history, failure_reason(Some(status)), None, now, 0.5);
                (result, status >= 500)
            }
            Reply::NeedsOperator => (retry::hold(history, Reason::without_status(ReasonCode::NoWebhook), now), false),
        };
        FinishedAttempt {
            duplicate: matches!(reply, Reply::Duplicate),
            message: matches!(reply, Reply::Reject(_)).then(|| REFUSAL.to_owned()),
            ..FinishedAttempt::new(result, history, now, is_event && outcome_unknown)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
