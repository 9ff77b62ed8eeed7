//! How fast a far end is called: a limit that every caller of one end shares.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// Both ends take ten requests a second (Loops API reference, "Rate limiting"; Clay, "Webhook integration guide":
/// limits): no second may hold more, the first one included.
const FAR_END_PER_SECOND: u32 = 10;
/// How long an end counts as full after it had no room: what comes then joins the queue behind what waits already.
const FULL_FOR: Duration = Duration::from_secs(1);

/// The pace of one far end, shared by everything that calls it.
pub trait Pace: Send + Sync {
    /// Waits until there is room, and takes it.
    fn wait(&self) -> impl Future<Output = ()> + Send;

    /// Takes room if there is some now, and nobody was turned away a moment ago.
    fn try_take(&self) -> bool;

    /// Leaves the end alone for that long: it said that it is full.
    fn pause(&self, pause: Duration);
}

impl<P: Pace> Pace for std::sync::Arc<P> {
    async fn wait(&self) {
        (**self).wait().await;
    }

    fn try_take(&self) -> bool {
        (**self).try_take()
    }

    fn pause(&self, pause: Duration) {
        (**self).pause(pause);
    }
}

/// A pace within one process.
#[derive(Debug)]
pub struct ProcessPace {
    limiter: DefaultDirectRateLimiter,
    /// Until when nothing is sent, and until when nobody is served out of turn.
    closed: Mutex<Closed>,
}

#[derive(Debug, Clone, Copy)]
struct Closed {
    paused_until: Instant,
    full_until: Instant,
}

impl ProcessPace {
    /// At most `per_second` requests a second, in bursts that keep every single second within what an end takes. Who sets
    /// more than ten a second has an end that takes more: then a burst is a tenth of it.
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        let spare = FAR_END_PER_SECOND.saturating_sub(per_second.get()).max(per_second.get() / 10);
        let burst = NonZeroU32::new(spare).unwrap_or(NonZeroU32::MIN).min(per_second);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let now = Instant::now();
        let closed = Closed { paused_until: now, full_until: now };
        Self { limiter: RateLimiter::direct(quota), closed: Mutex::new(closed) }
    }

    fn closed(&self) -> Closed {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, change: impl FnOnce(&mut Closed)) {
        change(&mut self.closed.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Pace for ProcessPace {
    async fn wait(&self) {
        loop {
            tokio::time::sleep_until(self.closed().paused_until).await;
            match self.limiter.check() {
                Ok(()) => return,
                Err(full) => tokio::time::sleep(full.wait_time_from(DefaultClock::default().now())).await,
            }
        }
    }

    fn try_take(&self) -> bool {
        let now = Instant::now();
        let closed = self.closed();
        let room = now >= closed.paused_until && now >= closed.full_until && self.limiter.check().is_ok();
        if !room && now >= closed.full_until {
            self.close(|closed| closed.full_until = now + FULL_FOR);
        }
        room
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        self.close(|closed| closed.paused_until = closed.paused_until.max(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32) -> ProcessPace {
        ProcessPace::new(NonZeroU32::new(per_second).unwrap())
    }

    fn taken_at_once(pace: &ProcessPace) -> usize {
        (0..100).take_while(|_| pace.try_take()).count()
    }

    #[tokio::test]
    async fn a_burst_leaves_room_for_a_second_at_full_pace() {
        assert_eq!(taken_at_once(&pace(8)), 2);
        assert_eq!(taken_at_once(&pace(1)), 1);
        assert_eq!(taken_at_once(&pace(10)), 1);
        assert_eq!(taken_at_once(&pace(50)), 5);
    }

    #[tokio::test]
    async fn who_was_turned_away_is_not_overtaken_for_a_moment() {
        let pace = pace(1000);
        while pace.try_take() {}
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!pace.try_take());
    }

    #[tokio::test]
    async fn a_pause_closes_the_end() {
        let pace = pace(8);
        pace.pause(Duration::from_secs(60));
        assert!(!pace.try_take());
        assert!(tokio::time::timeout(Duration::from_millis(30), pace.wait()).await.is_err());
    }

    #[tokio::test]
    async fn who_waits_gets_a_turn() {
        let pace = pace(100);
        for _ in 0..5 {
            tokio::time::timeout(Duration::from_secs(5), pace.wait()).await.unwrap();
        }
    }
}
