//! How fast a far end is called: a limit that every caller of one end shares.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::destination::http_client::FarAnswer;
use crate::destination::rate_limit_headers::Calls;
use crate::rate_limit::circuit_breaker::Breaker;

/// Both ends take ten requests a second (Loops API reference, "Rate limiting"; Clay, "Webhook integration guide":
/// limits): no second may hold more, the first one included.
const FAR_END_PER_SECOND: u32 = 10;
/// How much longer than the far end's second the time may be in which the requests of one such second were sent: one of
/// them takes longer to arrive than another. A fifth of a second.
const JITTER_PARTS: u32 = 5;
/// How long an end counts as full after it had no room: what comes then joins the queue behind what waits already.
const FULL_FOR: Duration = Duration::from_secs(1);

/// The longest that anybody waits while an end is left alone. Who would wait longer comes back: a queue holds a delivery
/// better than a process does.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest that a caller's row waits for its turn, rather than join the queue: as long as nobody minds in a cell.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// How late a turn may be used. A process that was frozen wakes up with many that are over, and all of them at once would be
/// a burst.
pub const TURN_LASTS: Duration = Duration::from_millis(250);

/// How long the pace is half of what it is otherwise, after others were seen to need the room.
const SLOW_FOR: Duration = Duration::from_secs(3);

/// The end is left alone: for how long, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeftAlone {
    /// It said that it is full.
    #[error("the far end is full for {} ms", .0.as_millis())]
    Full(Duration),
    /// It is down, and somebody else sees whether it is back.
    #[error("the far end is down; it is asked again in {} ms", .0.as_millis())]
    Down(Duration),
}

/// A turn that was taken: nobody else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Turn(Instant);

impl Turn {
    /// One that may be used from then on.
    pub const fn from(at: Instant) -> Self {
        Self(at)
    }

    /// The later of this and another time.
    pub fn or_later(self, at: Instant) -> Self {
        Self(self.0.max(at))
    }

    /// Whether it is over: whoever has it takes another one.
    #[must_use]
    pub fn is_over(self) -> bool {
        Instant::now().saturating_duration_since(self.0) > TURN_LASTS
    }

    /// Waits until it comes.
    pub async fn comes(self) {
        tokio::time::sleep_until(self.0).await;
    }
}

/// The pace of one far end, shared by everything that calls it.
pub trait Pace: Send + Sync {
    /// Waits until there is room, and takes it.
    ///
    /// # Errors
    /// When the end is left alone for longer than a moment.
    fn wait(&self) -> impl Future<Output = Result<(), LeftAlone>> + Send;

    /// Takes the next turn if it comes within [`PATIENCE`], and nobody was turned away a moment ago. The turn is waited for
    /// by whoever has it, so that there is time to see what it is for.
    fn try_take(&self) -> impl Future<Output = Option<Turn>> + Send;

    /// Leaves the end alone for that long: it said that it is full.
    fn pause(&self, pause: Duration) -> impl Future<Output = ()> + Send;

    /// Notes what came of a call: an end that is down is asked less often, and one whose room others need as well more
    /// slowly.
    fn note(&self, answer: &FarAnswer) -> impl Future<Output = ()> + Send;

    /// Whether a worker may begin something, as far as is known here without asking anybody.
    fn readiness(&self) -> Readiness;

    /// Whether the end has taken something within that period, as far as is known here.
    fn took_within(&self, period: Duration) -> bool;
}

/// Whether a worker may begin something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Ready,
    /// One delivery may be tried, to see whether an end that was down is back.
    Probe,
    /// Nothing is begun.
    LeftAlone(LeftAlone),
}

impl<P: Pace> Pace for std::sync::Arc<P> {
    async fn wait(&self) -> Result<(), LeftAlone> {
        (**self).wait().await
    }

    async fn try_take(&self) -> Option<Turn> {
        (**self).try_take().await
    }

    async fn pause(&self, pause: Duration) {
        (**self).pause(pause).await;
    }

    async fn note(&self, answer: &FarAnswer) {
        (**self).note(answer).await;
    }

    fn readiness(&self) -> Readiness {
        (**self).readiness()
    }

    fn took_within(&self, period: Duration) -> bool {
        (**self).took_within(period)
    }
}

/// How many requests may come in one moment, so that every single second stays within what an end takes, wherever it
/// begins, and however unevenly requests arrive. Who sets more than ten a second has an end that takes more: then it is a
/// tenth of it.
#[must_use]
pub fn burst(per_second: NonZeroU32) -> NonZeroU32 {
    let rate = per_second.get();
    let spare = FAR_END_PER_SECOND.saturating_sub(rate.saturating_add(rate / JITTER_PARTS)).max(rate / 10);
    NonZeroU32::new(spare).unwrap_or(NonZeroU32::MIN).min(per_second)
}

/// A pace within one process.
///
/// One time is its whole state: when the next request is due ("generic cell rate algorithm"). Whoever wants to send takes
/// that time, moves it on by one interval, and waits until it comes.
#[derive(Debug)]
pub struct ProcessPace {
    interval: Duration,
    /// How far ahead of its time a request may be sent.
    ahead: Duration,
    breaker: Breaker,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_at: Instant,
    /// Until when nothing is sent, until when nobody is served out of turn, until when the pace is half of what it is.
    paused_until: Instant,
    full_until: Instant,
    slow_until: Instant,
    calls: Calls,
}

impl ProcessPace {
    /// At most `per_second` requests a second, in bursts of [`burst`].
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / per_second.get();
        let ahead = interval * burst(per_second).get().saturating_sub(1);
        let now = Instant::now();
        let state =
            State { next_at: now, paused_until: now, full_until: now, slow_until: now, calls: Calls::default() };
        Self { interval, ahead, breaker: Breaker::default(), state: Mutex::new(state) }
    }

    /// Notes whether the end is up, and nothing of its room: for who keeps account of that elsewhere.
    pub fn note_outcome(&self, answer: &FarAnswer) {
        if let Some(outcome) = answer.evidence() {
            self.breaker.note(outcome);
        }
    }

    /// For how long the end is left alone.
    fn paused_for(&self) -> Duration {
        self.state().paused_until.saturating_duration_since(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the next request may be sent.
    fn next(&self, now: Instant, ahead: Duration) -> Instant {
        self.next_at.checked_sub(ahead).unwrap_or(now).max(now).max(self.paused_until)
    }

    /// Takes the turn at that time.
    fn take(&mut self, from: Instant, interval: Duration) -> Turn {
        let interval = if from < self.slow_until { interval * 2 } else { interval };
        self.next_at = self.next_at.max(from) + interval;
        Turn(from)
    }
}

impl Pace for ProcessPace {
    async fn wait(&self) -> Result<(), LeftAlone> {
        loop {
            if let Some(left) = self.breaker.left_alone() {
                return Err(LeftAlone::Down(left));
            }
            let paused = self.paused_for();
            if paused > LONGEST_PAUSE {
                return Err(LeftAlone::Full(paused));
            }
            let turn = {
                let (now, mut state) = (Instant::now(), self.state());
                let from = state.next(now, self.ahead);
                state.take(from, self.interval)
            };
            turn.comes().await;
            // It may have said meanwhile that it is full.
            if self.paused_for().is_zero() && !turn.is_over() {
                self.breaker.pass().map_err(LeftAlone::Down)?;
                self.state().calls.made(Instant::now());
                return Ok(());
            }
        }
    }

    async fn try_take(&self) -> Option<Turn> {
        let (now, mut state) = (Instant::now(), self.state());
        let from = state.next(now, self.ahead);
        if now < state.full_until {
            return None;
        }
        if from > now + PATIENCE {
            state.full_until = now + FULL_FOR;
            return None;
        }
        // Where an end is down, a row is safer in the queue. But in a process that has no worker, nobody else would ever see
        // that the end is back.
        if self.breaker.pass().is_err() {
            return None;
        }
        state.calls.made(from);
        Some(state.take(from, self.interval))
    }

    async fn pause(&self, pause: Duration) {
        let (until, mut state) = (Instant::now() + pause, self.state());
        state.paused_until = state.paused_until.max(until);
    }

    async fn note(&self, answer: &FarAnswer) {
        self.note_outcome(answer);
        let (now, mut state) = (Instant::now(), self.state());
        let own = state.calls.lately(now);
        if let Some(pause) = answer.room.and_then(|room| room.pause(own)) {
            state.paused_until = state.paused_until.max(now + pause);
            state.slow_until = now + SLOW_FOR;
        }
    }

    fn readiness(&self) -> Readiness {
        let paused = self.paused_for();
        if !paused.is_zero() {
            return Readiness::LeftAlone(LeftAlone::Full(paused));
        }
        match self.breaker.left_alone() {
            Some(left) => Readiness::LeftAlone(LeftAlone::Down(left)),
            None if self.breaker.is_open() => Readiness::Probe,
            None => Readiness::Ready,
        }
    }

    fn took_within(&self, period: Duration) -> bool {
        self.breaker.took_within(period)
    }
}

#[cfg(test)]
mod tests;
