//! The two kinds of a limit of ten a second: a token bucket (Clay) and a fixed window (Loops). They differ in how a burst
//! ends.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// As good as no limit. The bucket's clock counts whole nanoseconds, so it takes no much higher one.
const UNLIMITED_PER_SECOND: u32 = 1_000_000;

/// Clay's limit: a sustained rate with a burst (Clay, webhook guide: limits). Zero counts as one.
pub(crate) fn token_bucket(per_second: u32, burst: u32) -> DefaultDirectRateLimiter {
    let [per_second, burst] =
        [per_second, burst].map(|value| NonZeroU32::new(value.min(UNLIMITED_PER_SECOND)).unwrap_or(NonZeroU32::MIN));
    RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst))
}

/// Loops' limit: a number of calls in each second (Loops, API introduction: rate limiting). When a second begins is not
/// stated; here it begins with the first call after the previous one.
#[derive(Debug)]
pub(crate) struct FixedWindow {
    pub(crate) limit: u32,
    window_start: Option<Instant>,
    used: u32,
}

impl FixedWindow {
    const WINDOW: Duration = Duration::from_secs(1);

    pub(crate) fn new(per_second: u32) -> Self {
        Self { limit: per_second.max(1), window_start: None, used: 0 }
    }

    /// Counts one call and returns how many remain, or `None` above the limit.
    pub(crate) fn try_acquire(&mut self, now: Instant) -> Option<u32> {
        let has_expired =
            self.window_start.is_none_or(|started| now.saturating_duration_since(started) >= Self::WINDOW);
        if has_expired {
            self.window_start = Some(now);
            self.used = 0;
        }
        let remaining = self.limit.checked_sub(self.used)?.checked_sub(1)?;
        self.used = self.used.saturating_add(1);
        Some(remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_window_counts_down_then_rejects() {
        let mut window = FixedWindow::new(3);
        let start = Instant::now();
        assert_eq!(
            [window.try_acquire(start), window.try_acquire(start), window.try_acquire(start)],
            [Some(2), Some(1), Some(0)]
        );
        assert_eq!(window.try_acquire(start + Duration::from_millis(999)), None);
    }

    #[test]
    fn fixed_window_restarts_with_first_call_after_a_second() {
        let mut window = FixedWindow::new(1);
        let start = Instant::now();
        assert_eq!(window.try_acquire(start), Some(0));
        assert_eq!(window.try_acquire(start + Duration::from_secs(1)), Some(0));
        assert_eq!(window.try_acquire(start + Duration::from_millis(1_999)), None);
        assert_eq!(window.try_acquire(start + Duration::from_secs(2)), Some(0));
    }

    #[test]
    fn zero_limit_allows_one_call() {
        assert_eq!(FixedWindow::new(0).try_acquire(Instant::now()), Some(0));
        let bucket = token_bucket(0, 0);
        assert!(bucket.check().is_ok());
        assert!(bucket.check().is_err());
    }

    #[test]
    fn max_limit_is_unlimited() {
        let bucket = token_bucket(u32::MAX, u32::MAX);
        assert!((0..1_000).all(|_| bucket.check().is_ok()));
    }
}
