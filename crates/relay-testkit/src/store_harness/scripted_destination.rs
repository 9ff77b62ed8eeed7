//! A clock that a test moves, and a far end that does as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::Clock;
use relay::ports::queue::Deliver;
use relay::rate_limit::limiter::Readiness;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::sync::Notify;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
    given: AtomicU64,
}

impl Default for ManualClock {
    fn default() -> Self {
        // Stores keep milliseconds.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default();
        Self { now: Mutex::new(now), given: AtomicU64::new(0) }
    }
}

impl ManualClock {
    /// Moves it.
    pub fn pass(&self, time: SignedDuration) {
        let mut now = lock(&self.now);
        *now = now.checked_add(time).unwrap_or(*now);
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
        format!("u{}x{:x}", self.given.fetch_add(1, Ordering::Relaxed), rand::random::<u64>())
    }
}

/// What the far end makes of a delivery.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It takes it.
    Takes,
    /// It takes it, and its answer never comes.
    TakesAndHangs,
    /// It refuses it for good.
    Refuses(u16),
    /// It fails, and asks for so many seconds.
    AsksFor(u32),
    /// It fails.
    Fails(u16),
    /// A person has to mend something.
    NeedsMending,
}

/// The far end.
#[derive(Debug, Clone)]
pub struct End(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<ManualClock>,
    answers: Mutex<(VecDeque<Answer>, Answer)>,
    got: Mutex<Vec<String>>,
    hangs: Notify,
}

impl End {
    /// One that takes everything.
    #[must_use]
    pub fn new(clock: &Arc<ManualClock>) -> Self {
        let answers = Mutex::new((VecDeque::new(), Answer::Takes));
        Self(Arc::new(Inner { clock: Arc::clone(clock), answers, got: Mutex::default(), hangs: Notify::new() }))
    }

    /// The next answers.
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.0.answers).0.extend(answers);
    }

    /// What it answers after those.
    pub fn otherwise(&self, answer: Answer) {
        lock(&self.0.answers).1 = answer;
    }

    /// The bodies that it got so far.
    #[must_use]
    pub fn got(&self) -> Vec<String> {
        lock(&self.0.got).clone()
    }

    /// Waits until somebody waits for an answer that never comes.
    pub async fn hangs(&self) {
        self.0.hangs.notified().await;
    }
}

impl Deliver for End {
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    async fn attempt(&self, delivery: &Delivery, history: AttemptHistory) -> AttemptResult {
        lock(&self.0.got).push(String::from_utf8_lossy(&delivery.body).into_owned());
        let answer = {
            let mut answers = lock(&self.0.answers);
            answers.0.pop_front().unwrap_or(answers.1)
        };
        let now = self.0.clock.now();
        let failed = |status| Reason { code: ReasonCode::DestinationFailed, status };
        match answer {
            Answer::Takes => AttemptResult::Delivered,
            Answer::TakesAndHangs => {
                self.0.hangs.notify_one();
                std::future::pending().await
            }
            Answer::Refuses(status) => {
                AttemptResult::DeadLetter(Reason { code: ReasonCode::ClayRejected, status: Some(status) })
            }
            Answer::AsksFor(seconds) => {
                let asked = Some(std::time::Duration::from_secs(seconds.into()));
                retry::retry_or_dead_letter(history, Reason::without_status(ReasonCode::TimedOut), asked, now, 0.5)
            }
            Answer::Fails(status) => retry::retry_or_dead_letter(history, failed(Some(status)), None, now, 0.5),
            Answer::NeedsMending => retry::hold(history, Reason::without_status(ReasonCode::NoWebhook), now),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
