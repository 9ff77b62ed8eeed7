//! The circuit breaker of a destination. Three failures in a row open the circuit. From then on one caller in ten seconds is
//! let through as a probe, not every waiting delivery. The first response closes the circuit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relay_core::policy::response::CallOutcome;
use tokio::time::Instant;

/// Number of failures in a row that open the circuit.
const FAILURE_THRESHOLD: u32 = 3;
/// Interval between probes of a destination that is down.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct CircuitBreaker {
    state: Mutex<BreakerState>,
}

#[derive(Debug, Default, Clone, Copy)]
struct BreakerState {
    failures: u32,
    /// When the next caller may probe the destination.
    probe_at: Option<Instant>,
    /// When the destination last accepted something.
    last_success_at: Option<Instant>,
}

impl CircuitBreaker {
    /// Lets a caller through, or returns how long the destination is not to be called.
    pub(crate) fn try_acquire(&self) -> Result<(), Duration> {
        let mut state = self.lock();
        if let Some(retry_in) = state.retry_in() {
            return Err(retry_in);
        }
        state.probe_at = state.probe_at.map(|_| Instant::now() + PROBE_INTERVAL);
        Ok(())
    }

    /// How long no caller is let through.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        self.lock().retry_in()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().probe_at.is_some()
    }

    /// Whether the destination has accepted something within that period.
    pub(crate) fn succeeded_within(&self, period: Duration) -> bool {
        self.lock().last_success_at.is_some_and(|at| at.elapsed() < period)
    }

    pub(crate) fn record(&self, outcome: CallOutcome) {
        let mut state = self.lock();
        // A destination that throttles or rejects is up.
        if let CallOutcome::Responded(status @ ..500) = outcome {
            let accepted = (200..300).contains(&status);
            let last_success_at = if accepted { Some(Instant::now()) } else { state.last_success_at };
            *state = BreakerState { last_success_at, ..BreakerState::default() };
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURE_THRESHOLD {
            state.probe_at = Some(Instant::now() + PROBE_INTERVAL);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BreakerState {
    fn retry_in(self) -> Option<Duration> {
        Some(self.probe_at?.saturating_duration_since(Instant::now())).filter(|remaining| !remaining.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: CallOutcome = CallOutcome::Responded(503);

    fn open_breaker() -> CircuitBreaker {
        let breaker = CircuitBreaker::default();
        for _ in 0..FAILURE_THRESHOLD {
            breaker.record(DOWN);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn failures_below_threshold_keep_breaker_closed() {
        let breaker = CircuitBreaker::default();
        for _ in 1..FAILURE_THRESHOLD {
            breaker.record(DOWN);
        }
        assert_eq!(breaker.try_acquire(), Ok(()));
        breaker.record(CallOutcome::Responded(200));
        breaker.record(DOWN);
        assert_eq!(breaker.try_acquire(), Ok(()), "only failures in a row count");
    }

    #[tokio::test(start_paused = true)]
    async fn open_breaker_allows_one_probe_per_interval() {
        let breaker = open_breaker();
        let mut probes = 0;
        for _ in 0..600 {
            tokio::time::advance(Duration::from_millis(100)).await;
            if breaker.try_acquire().is_ok() {
                probes += 1;
                breaker.record(CallOutcome::TimedOut);
            }
        }
        assert!((5..=6).contains(&probes), "{probes} in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn succeeded_within_uses_time_of_last_success() {
        let (breaker, second) = (CircuitBreaker::default(), Duration::from_secs(1));
        breaker.record(CallOutcome::Responded(401));
        assert!(!breaker.succeeded_within(60 * second), "it was there, and took nothing");
        breaker.record(CallOutcome::Responded(200));
        tokio::time::advance(10 * second).await;
        breaker.record(DOWN);
        assert!(breaker.succeeded_within(11 * second) && !breaker.succeeded_within(10 * second));
    }

    #[tokio::test(start_paused = true)]
    async fn first_response_closes_the_breaker() {
        let breaker = open_breaker();
        assert!(breaker.try_acquire().is_err() && breaker.is_open());
        tokio::time::advance(PROBE_INTERVAL).await;
        assert_eq!(breaker.try_acquire(), Ok(()));
        assert!(breaker.try_acquire().is_err(), "one at a time");
        breaker.record(CallOutcome::Responded(401));
        assert!(breaker.try_acquire().is_ok() && !breaker.is_open());
    }
}
