//! How fast a far end is called: a limit that every caller of one end shares.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use relay_core::decision::Outcome;
use tokio::time::Instant;

use crate::breaker::Breaker;

/// Both ends take ten requests a second (Loops API reference, "Rate limiting"; Clay, "Webhook integration guide":
/// limits): no second may hold more, the first one included.
const FAR_END_PER_SECOND: u32 = 10;
/// How long an end counts as full after it had no room: what comes then joins the queue behind what waits already.
const FULL_FOR: Duration = Duration::from_secs(1);

/// The longest that anybody waits while an end is left alone. Who would wait longer comes back: a queue holds a delivery
/// better than a process does.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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

/// The pace of one far end, shared by everything that calls it.
pub trait Pace: Send + Sync {
    /// Waits until there is room, and takes it.
    ///
    /// # Errors
    /// When the end is left alone for longer than a moment.
    fn wait(&self) -> impl Future<Output = Result<(), LeftAlone>> + Send;

    /// Takes room if there is some now, and nobody was turned away a moment ago.
    fn try_take(&self) -> impl Future<Output = bool> + Send;

    /// Leaves the end alone for that long: it said that it is full.
    fn pause(&self, pause: Duration) -> impl Future<Output = ()> + Send;

    /// Notes what came of a call: an end that is down is asked less often.
    fn note(&self, outcome: Outcome);

    /// Whether a worker may begin something, as far as is known here without asking anybody.
    fn readiness(&self) -> Readiness;
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

    async fn try_take(&self) -> bool {
        (**self).try_take().await
    }

    async fn pause(&self, pause: Duration) {
        (**self).pause(pause).await;
    }

    fn note(&self, outcome: Outcome) {
        (**self).note(outcome);
    }

    fn readiness(&self) -> Readiness {
        (**self).readiness()
    }
}

/// How many requests may come in one moment, so that every single second stays within what an end takes. Who sets more
/// than ten a second has an end that takes more: then it is a tenth of it.
#[must_use]
pub fn burst(per_second: NonZeroU32) -> NonZeroU32 {
    let spare = FAR_END_PER_SECOND.saturating_sub(per_second.get()).max(per_second.get() / 10);
    NonZeroU32::new(spare).unwrap_or(NonZeroU32::MIN).min(per_second)
}

/// A pace within one process.
#[derive(Debug)]
pub struct ProcessPace {
    limiter: DefaultDirectRateLimiter,
    breaker: Breaker,
    /// Until when nothing is sent, and until when nobody is served out of turn.
    closed: Mutex<Closed>,
}

#[derive(Debug, Clone, Copy)]
struct Closed {
    paused_until: Instant,
    full_until: Instant,
}

impl ProcessPace {
    /// At most `per_second` requests a second, in bursts of [`burst`].
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        Self::share(per_second, NonZeroU32::MIN)
    }

    /// The pace of one of so many processes that keep `per_second` together: its part of the rate, and of the [`burst`].
    #[must_use]
    pub fn share(per_second: NonZeroU32, processes: NonZeroU32) -> Self {
        let part = |all: NonZeroU32| NonZeroU32::new(all.get() / processes).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(part(per_second)).allow_burst(part(burst(per_second)));
        let now = Instant::now();
        let closed = Closed { paused_until: now, full_until: now };
        Self { limiter: RateLimiter::direct(quota), breaker: Breaker::default(), closed: Mutex::new(closed) }
    }

    fn closed(&self) -> Closed {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, change: impl FnOnce(&mut Closed)) {
        change(&mut self.closed.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Pace for ProcessPace {
    async fn wait(&self) -> Result<(), LeftAlone> {
        loop {
            let paused_until = self.closed().paused_until;
            let left = paused_until.saturating_duration_since(Instant::now());
            if left > LONGEST_PAUSE {
                return Err(LeftAlone::Full(left));
            }
            tokio::time::sleep_until(paused_until).await;
            match self.limiter.check() {
                Ok(()) => return self.breaker.pass().map_err(LeftAlone::Down),
                Err(full) => tokio::time::sleep(full.wait_time_from(DefaultClock::default().now())).await,
            }
        }
    }

    async fn try_take(&self) -> bool {
        let now = Instant::now();
        let closed = self.closed();
        // A caller is not the one to see whether an end that is down is back: its row is safer in the queue.
        let open = now >= closed.paused_until && now >= closed.full_until && !self.breaker.is_open();
        let room = open && self.limiter.check().is_ok();
        if !room && now >= closed.full_until {
            self.close(|closed| closed.full_until = now + FULL_FOR);
        }
        room
    }

    async fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        self.close(|closed| closed.paused_until = closed.paused_until.max(until));
    }

    fn note(&self, outcome: Outcome) {
        self.breaker.note(outcome);
    }

    fn readiness(&self) -> Readiness {
        let paused = self.closed().paused_until.saturating_duration_since(Instant::now());
        if !paused.is_zero() {
            return Readiness::LeftAlone(LeftAlone::Full(paused));
        }
        match self.breaker.left_alone() {
            Some(left) => Readiness::LeftAlone(LeftAlone::Down(left)),
            None if self.breaker.is_open() => Readiness::Probe,
            None => Readiness::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32) -> ProcessPace {
        ProcessPace::new(NonZeroU32::new(per_second).unwrap())
    }

    async fn taken_at_once(pace: &ProcessPace) -> usize {
        let mut taken = 0;
        while taken < 100 && pace.try_take().await {
            taken += 1;
        }
        taken
    }

    #[tokio::test]
    async fn a_burst_leaves_room_for_a_second_at_full_pace() {
        assert_eq!(taken_at_once(&pace(8)).await, 2);
        assert_eq!(taken_at_once(&pace(1)).await, 1);
        assert_eq!(taken_at_once(&pace(10)).await, 1);
        assert_eq!(taken_at_once(&pace(50)).await, 5);
    }

    #[tokio::test]
    async fn processes_that_share_a_pace_share_its_burst() {
        let of = |number| NonZeroU32::new(number).unwrap();
        for per_second in [2, 4, 6, 8] {
            let mut in_a_second = 0;
            for _ in 0..2 {
                let share = ProcessPace::share(of(per_second), of(2));
                in_a_second += taken_at_once(&share).await + usize::try_from(per_second / 2).unwrap();
            }
            assert!(in_a_second <= 10, "{in_a_second} in the first second at {per_second}");
        }
    }

    #[tokio::test]
    async fn who_was_turned_away_is_not_overtaken_for_a_moment() {
        let pace = pace(1000);
        while pace.try_take().await {}
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!pace.try_take().await);
    }

    #[tokio::test]
    async fn a_pause_closes_the_end() {
        let pace = pace(8);
        pace.pause(Duration::from_secs(4)).await;
        assert!(!pace.try_take().await);
        assert!(tokio::time::timeout(Duration::from_millis(30), pace.wait()).await.is_err());
    }

    #[tokio::test]
    async fn a_long_pause_is_not_waited_for() {
        let pace = pace(8);
        pace.pause(Duration::from_secs(3600)).await;
        let Err(LeftAlone::Full(left)) = pace.wait().await else { panic!("it waits") };
        assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");
    }

    #[tokio::test]
    async fn who_waits_gets_a_turn() {
        let pace = pace(100);
        for _ in 0..5 {
            tokio::time::timeout(Duration::from_secs(5), pace.wait()).await.unwrap().unwrap();
        }
    }
}
