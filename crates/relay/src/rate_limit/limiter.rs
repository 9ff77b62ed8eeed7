//! The rate limiter of one process, shared by all callers of a destination.
//!
//! See docs/adr/0005-rate-limiting.md.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::destination::http_client::DestinationResponse;
use crate::destination::rate_limit_headers::RecentCalls;
use crate::ports::rate_limiter::{MAX_PERMIT_WAIT, Permit, RateLimiter, Readiness, Unavailable};
use crate::rate_limit::circuit_breaker::CircuitBreaker;

/// Both destinations accept ten requests a second (Loops API reference, "Rate limiting"; Clay, "Webhook integration guide":
/// limits): no second may hold more, the first one included.
const DESTINATION_RPS: u32 = 10;
/// Divisor of the second that gives the allowance for jitter, a fifth of a second: requests that arrive within one second
/// may have been sent within a longer time, because some take longer to arrive than others.
const JITTER_DIVISOR: u32 = 5;
/// How long callers get no permit after one was rejected: their rows join the queue behind those that wait already.
const REJECT_WINDOW: Duration = Duration::from_secs(1);

/// Longest time that a worker waits for a throttled destination. A delivery that has to wait longer goes back to the queue,
/// where it is safer than in a process.
const MAX_WORKER_WAIT: Duration = Duration::from_secs(5);

/// How long the rate is halved after other clients were seen to use the quota.
const SLOWDOWN: Duration = Duration::from_secs(3);

/// Returns how many requests may be sent at one moment, so that every period of one second stays within the destination's
/// limit, however unevenly requests arrive. A rate above ten a second is set for a destination with a higher limit: then
/// it is a tenth of the rate.
pub fn burst_size(per_second: NonZeroU32) -> NonZeroU32 {
    let rate = per_second.get();
    let spare = DESTINATION_RPS.saturating_sub(rate.saturating_add(rate / JITTER_DIVISOR)).max(rate / 10);
    NonZeroU32::new(spare).unwrap_or(NonZeroU32::MIN).min(per_second)
}

/// Rate limiter of one process. Its state is the time at which the next request is due ("generic cell rate algorithm"). A
/// caller takes that time, advances it by one interval, and waits until it comes.
#[derive(Debug)]
pub struct LocalRateLimiter {
    interval: Duration,
    /// How far ahead of its time a request may be sent.
    burst_tolerance: Duration,
    breaker: CircuitBreaker,
    state: Mutex<LimiterState>,
}

#[derive(Debug)]
struct LimiterState {
    next_at: Instant,
    /// Until when nothing is sent, until when callers are rejected, until when the rate is halved.
    throttled_until: Instant,
    rejecting_until: Instant,
    slowed_until: Instant,
    recent_calls: RecentCalls,
}

impl LocalRateLimiter {
    /// At most `per_second` requests a second, in bursts of [`burst_size`].
    pub fn new(per_second: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / per_second.get();
        let burst_tolerance = interval * burst_size(per_second).get().saturating_sub(1);
        let now = Instant::now();
        let state = LimiterState {
            next_at: now,
            throttled_until: now,
            rejecting_until: now,
            slowed_until: now,
            recent_calls: RecentCalls::default(),
        };
        Self { interval, burst_tolerance, breaker: CircuitBreaker::default(), state: Mutex::new(state) }
    }

    /// Records whether the destination is up, without its quota: for limiters that store the quota elsewhere.
    pub fn record_outcome(&self, response: &DestinationResponse) {
        if let Some(outcome) = response.health_signal() {
            self.breaker.record(outcome);
        }
    }

    fn throttled_for(&self) -> Duration {
        self.state().throttled_until.saturating_duration_since(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    fn next_slot(&self, now: Instant, burst_tolerance: Duration) -> Instant {
        self.next_at.checked_sub(burst_tolerance).unwrap_or(now).max(now).max(self.throttled_until)
    }

    /// Takes the permit of that time.
    fn reserve(&mut self, at: Instant, interval: Duration) -> Permit {
        let interval = if at < self.slowed_until { interval * 2 } else { interval };
        self.next_at = self.next_at.max(at) + interval;
        Permit(at)
    }
}

impl RateLimiter for LocalRateLimiter {
    async fn acquire(&self) -> Result<(), Unavailable> {
        loop {
            if let Some(retry_in) = self.breaker.retry_in() {
                return Err(Unavailable::CircuitOpen(retry_in));
            }
            let throttled_for = self.throttled_for();
            if throttled_for > MAX_WORKER_WAIT {
                return Err(Unavailable::Throttled(throttled_for));
            }
            let permit = {
                let (now, mut state) = (Instant::now(), self.state());
                let at = state.next_slot(now, self.burst_tolerance);
                state.reserve(at, self.interval)
            };
            permit.wait().await;
            // The destination may have throttled meanwhile.
            if self.throttled_for().is_zero() && !permit.is_expired() {
                self.breaker.try_acquire().map_err(Unavailable::CircuitOpen)?;
                self.state().recent_calls.push(Instant::now());
                return Ok(());
            }
        }
    }

    async fn try_acquire(&self) -> Option<Permit> {
        let (now, mut state) = (Instant::now(), self.state());
        let at = state.next_slot(now, self.burst_tolerance);
        if now < state.rejecting_until {
            return None;
        }
        if at > now + MAX_PERMIT_WAIT {
            state.rejecting_until = now + REJECT_WINDOW;
            return None;
        }
        // While a destination is down, a row is safer in the queue. But a process without a worker has no other way to see
        // that the destination is back.
        if self.breaker.try_acquire().is_err() {
            return None;
        }
        state.recent_calls.push(at);
        Some(state.reserve(at, self.interval))
    }

    async fn throttle_for(&self, pause: Duration) {
        let (until, mut state) = (Instant::now() + pause, self.state());
        state.throttled_until = state.throttled_until.max(until);
    }

    async fn record(&self, response: &DestinationResponse) {
        self.record_outcome(response);
        let (now, mut state) = (Instant::now(), self.state());
        let own_calls = state.recent_calls.count(now);
        if let Some(pause) = response.rate_limit.and_then(|quota| quota.throttle_hint(own_calls)) {
            state.throttled_until = state.throttled_until.max(now + pause);
            state.slowed_until = now + SLOWDOWN;
        }
    }

    fn readiness(&self) -> Readiness {
        let throttled_for = self.throttled_for();
        if !throttled_for.is_zero() {
            return Readiness::Unavailable(Unavailable::Throttled(throttled_for));
        }
        match self.breaker.retry_in() {
            Some(retry_in) => Readiness::Unavailable(Unavailable::CircuitOpen(retry_in)),
            None if self.breaker.is_open() => Readiness::HalfOpen,
            None => Readiness::Ready,
        }
    }

    fn succeeded_within(&self, period: Duration) -> bool {
        self.breaker.succeeded_within(period)
    }
}

#[cfg(test)]
mod tests;
