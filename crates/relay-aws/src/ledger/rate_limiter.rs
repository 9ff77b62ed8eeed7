//! Rate limiter of the calls to one destination, shared by all sandboxes. Clay may run a hundred sandboxes at once, and Loops
//! takes ten calls a second from the whole team.
//!
//! One item of the ledger holds the time of the next call (generic cell rate algorithm: one time is the whole state). A
//! caller advances that time by one interval. While it is in the future, that is an addition, which needs no retry. A worker
//! advances it further into the future and sleeps until then. So, while workers have a backlog, callers get no permit and
//! their rows join the queue behind it.
//!
//! A write reserves a call for each caller of the sandbox that waits at that moment, because DynamoDB charges by the write: a
//! batch of ten takes its calls in two or three. Nobody reserves for a caller that may come, nor while the breaker of the
//! sandbox may turn the others away, so no call is lost to other sandboxes. Each still passes the limiter of its sandbox, and
//! with it the breaker, one after another.
//!
//! See docs/adr/0005-rate-limiting.md.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay::destination::http_client::DestinationResponse;
use relay::ports::clock::SharedClock;
use relay::ports::queue::StoreError;
use relay::ports::rate_limiter::{MAX_PERMIT_WAIT, PERMIT_TTL, Permit, RateLimiter, Readiness, Unavailable};
use relay::rate_limit::limiter::{LocalRateLimiter, burst_size};
use relay_core::policy::retry;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::ledger::limiter_item::{DynamoLimiterStore, LimiterItem, LimiterStore, LimiterUpdate};

/// Number of updates that a reservation tries: the item may have changed since it was read, or be idle, or change meanwhile.
const MAX_CAS_ATTEMPTS: u32 = 4;
/// Longest time that a worker waits for a permit: two workers with ten groups each wait, at two calls a second or more.
const MAX_WAIT: SignedDuration = SignedDuration::from_secs(12);
/// Longest plausible wait for the next call, with a margin for clocks that differ. A later time was written by a sandbox whose
/// clock was wrong, and is ignored.
const MAX_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Time of a third of the rate after other clients of the destination used up its quota. The relay notices that a call or two
/// too late, so it must not probe too often.
const SLOWDOWN_PERIOD: Duration = Duration::from_secs(20);
const SLOWDOWN_FACTOR: i32 = 3;

/// Rate limiter that all sandboxes share.
#[derive(Debug)]
pub struct DistributedRateLimiter<I = DynamoLimiterStore> {
    store: I,
    clock: SharedClock,
    /// Limiter of this sandbox. It saves a call to the table where this sandbox alone exceeds the rate.
    local_limiter: LocalRateLimiter,
    interval: SignedDuration,
    /// How far ahead of its time a call may be made.
    burst_tolerance: SignedDuration,
    /// Most calls of all sandboxes within one second.
    max_rps: u32,
    /// Number of callers that wait for a call, reserved for them or not.
    waiting: AtomicU32,
    /// The lock keeps the reservations of one sandbox from conflicting.
    state: Mutex<SharedState>,
}

/// What a sandbox knows of the item.
#[derive(Debug, Default)]
struct SharedState {
    /// The item as it was last read.
    last_seen: LimiterItem,
    /// Times of the calls that are reserved for callers of this sandbox.
    reserved: VecDeque<Timestamp>,
}

impl SharedState {
    /// Takes a reserved call that can still be made, as for a permit. Others are forgotten: a caller was cancelled or frozen,
    /// the destination was throttled, or a clock was set.
    fn take_reserved(&mut self, now: Timestamp, max_wait: SignedDuration) -> Option<Timestamp> {
        let throttled_until = self.last_seen.throttled_until;
        let is_usable = |at: &Timestamp| {
            *at + PERMIT_TTL >= now && *at <= now + max_wait && throttled_until.is_none_or(|until| until <= *at)
        };
        std::iter::from_fn(|| self.reserved.pop_front()).find(is_usable)
    }
}

/// Counts a caller as waiting until it is dropped.
struct Waiter<'a>(&'a AtomicU32);

impl<'a> Waiter<'a> {
    fn new(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Reservation {
    Granted(Timestamp),
    /// No call may be made before that time.
    Throttled(Timestamp),
}

impl<I: LimiterStore> DistributedRateLimiter<I> {
    /// Creates a limiter of `per_second` calls a second from all sandboxes together.
    pub fn new(store: I, per_second: NonZeroU32, clock: SharedClock) -> Self {
        let interval = SignedDuration::from_secs(1) / i32::try_from(per_second.get()).unwrap_or(i32::MAX);
        let burst = burst_size(per_second).get();
        let extra_permits = i32::try_from(burst.saturating_sub(1)).unwrap_or_default();
        let local_limiter = LocalRateLimiter::new(per_second);
        let max_rps = per_second.get().saturating_add(burst);
        Self {
            store,
            clock,
            local_limiter,
            interval,
            burst_tolerance: interval * extra_permits,
            max_rps,
            waiting: AtomicU32::new(0),
            state: Mutex::default(),
        }
    }

    /// Reserves a call within `max_wait` from now for a caller that is counted as waiting, and with the same write one for each
    /// other that waits.
    async fn reserve(&self, max_wait: SignedDuration) -> Result<Reservation, StoreError> {
        let mut state = self.state.lock().await;
        if let Some(at) = state.take_reserved(self.clock.now(), max_wait) {
            return Ok(Reservation::Granted(at));
        }
        let SharedState { last_seen, reserved } = &mut *state;
        let mut just_read = false;
        for _ in 0..MAX_CAS_ATTEMPTS {
            let now = truncate_to_micros(self.clock.now());
            let earliest = self.earliest_call(*last_seen, now);
            if earliest > now + max_wait {
                if just_read {
                    return Ok(Reservation::Throttled(earliest));
                }
                (*last_seen, just_read) = (self.store.load().await?, true);
                continue;
            }
            let is_slowed = last_seen.slow_until.is_some_and(|until| earliest < until);
            let interval = if is_slowed { self.interval * SLOWDOWN_FACTOR } else { self.interval };
            let calls = self.calls_until(now + max_wait, earliest, interval);
            let next_at = plausible_next_at(*last_seen, now);
            let idle = next_at.is_none_or(|at| at < now) || last_seen.throttled_until.is_some_and(|until| until > now);
            let update = if idle {
                LimiterUpdate::Reset {
                    expected: *last_seen,
                    next_at: next_at.unwrap_or(earliest).max(earliest) + interval * calls,
                }
            } else {
                let latest = now + max_wait + self.burst_tolerance - interval * (calls - 1);
                LimiterUpdate::Advance { earliest: now, latest, by: interval * calls }
            };
            match self.store.update(update, now).await? {
                Ok(updated) => {
                    *last_seen = updated;
                    let first_slot = updated.next_at.unwrap_or(now) - interval * calls;
                    let call_at = |number| {
                        let slot = first_slot + interval * number - self.burst_tolerance;
                        slot.max(now).max(updated.throttled_until.unwrap_or(now))
                    };
                    reserved.extend((1..calls).map(call_at));
                    return Ok(Reservation::Granted(call_at(0)));
                }
                Err(current) => (*last_seen, just_read) = (current, true),
            }
        }
        // Too many others reserve at the same time.
        Ok(Reservation::Throttled(self.clock.now() + self.interval))
    }

    /// Returns the number of calls to reserve: one for each caller that waits, if it is not after `latest`.
    fn calls_until(&self, latest: Timestamp, earliest: Timestamp, interval: SignedDuration) -> i32 {
        if self.local_limiter.readiness() != Readiness::Ready {
            // The breaker may turn the other callers away.
            return 1;
        }
        let fitting = latest.duration_since(earliest).as_micros() / interval.as_micros().max(1) + 1;
        let calls = i128::from(self.waiting.load(Ordering::Relaxed)).min(fitting).max(1);
        i32::try_from(calls).unwrap_or(1)
    }

    /// Returns the earliest time of a call that the burst and a throttling destination allow.
    fn earliest_call(&self, item: LimiterItem, now: Timestamp) -> Timestamp {
        let next_at = plausible_next_at(item, now).unwrap_or(now);
        (next_at - self.burst_tolerance).max(now).max(item.throttled_until.unwrap_or(now))
    }

    /// Makes all sandboxes stop calling the destination, and call it more slowly afterwards.
    async fn throttle_all(&self, duration: Duration, slowdown: Option<Duration>) {
        self.local_limiter.throttle_for(duration).await;
        let now = self.clock.now();
        let until = truncate_to_micros(retry::add_saturating(now, duration));
        let slow_until = slowdown.map(|slowdown| truncate_to_micros(retry::add_saturating(now, slowdown)));
        let mut state = self.state.lock().await;
        match self.store.update(LimiterUpdate::Throttle { until, slow_until }, now).await {
            Ok(Ok(item) | Err(item)) => state.last_seen = item,
            Err(error) => warn!(%error, "the pause could not be shared with the other sandboxes"),
        }
    }

    fn time_until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default()
    }
}

impl<I: LimiterStore> RateLimiter for DistributedRateLimiter<I> {
    async fn acquire(&self) -> Result<(), Unavailable> {
        loop {
            let waiter = Waiter::new(&self.waiting);
            self.local_limiter.acquire().await?;
            let reservation = self.reserve(MAX_WAIT).await;
            drop(waiter);
            match reservation {
                Ok(Reservation::Granted(at)) => {
                    let permit_at = Instant::now() + self.time_until(at);
                    tokio::time::sleep_until(permit_at).await;
                    if Instant::now().saturating_duration_since(permit_at) > PERMIT_TTL {
                        continue;
                    }
                }
                Ok(Reservation::Throttled(at)) => return Err(Unavailable::Throttled(self.time_until(at))),
                // The worker could write its record, so this passes. The local limiter counts meanwhile.
                Err(error) => warn!(%error, "the shared rate cannot be read: this sandbox limits its own"),
            }
            // The destination may have throttled meanwhile.
            if !matches!(self.local_limiter.readiness(), Readiness::Unavailable(Unavailable::Throttled(_))) {
                return Ok(());
            }
        }
    }

    async fn try_acquire(&self) -> Option<Permit> {
        let permit = self.local_limiter.try_acquire().await?;
        let _waiter = Waiter::new(&self.waiting);
        match self.reserve(SignedDuration::try_from(MAX_PERMIT_WAIT).unwrap_or_default()).await {
            // A worker sends what it has received all the same.
            Ok(Reservation::Granted(_)) if self.state.lock().await.last_seen.paused => None,
            Ok(Reservation::Granted(at)) => Some(permit.max(Instant::now() + self.time_until(at))),
            Ok(Reservation::Throttled(_)) => None,
            Err(error) => {
                warn!(%error, "the shared rate cannot be read: the row joins the queue");
                None
            }
        }
    }

    async fn throttle_for(&self, duration: Duration) {
        self.throttle_all(duration, None).await;
    }

    async fn record(&self, response: &DestinationResponse) {
        self.local_limiter.record_outcome(response);
        // The calls of other sandboxes are unknown here: as many as the rate allows may be the relay's own.
        if let Some(duration) = response.rate_limit.and_then(|quota| quota.throttle_hint(self.max_rps)) {
            self.throttle_all(duration, Some(SLOWDOWN_PERIOD)).await;
        }
    }

    fn readiness(&self) -> Readiness {
        self.local_limiter.readiness()
    }

    fn succeeded_within(&self, period: Duration) -> bool {
        self.local_limiter.succeeded_within(period)
    }
}

/// Returns when the next call is due, if that is plausible.
fn plausible_next_at(item: LimiterItem, now: Timestamp) -> Option<Timestamp> {
    item.next_at.filter(|at| *at <= now + MAX_SKEW)
}

fn truncate_to_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
