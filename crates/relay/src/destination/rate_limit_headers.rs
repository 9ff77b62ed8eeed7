//! The quota that a destination reports, and whether other clients use it.
//!
//! Every response of Loops has the remaining quota of the team's current second. The relay knows its own calls; other
//! clients made the rest.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back the relay's own calls are counted: the destination's second and the time of a round trip, so that an own
/// call is not taken for one of another client.
const WINDOW: Duration = Duration::from_millis(1250);
/// A remaining quota that is low: it is used up before the next responses arrive.
const LOW_REMAINING: u32 = 2;
/// How long calls stop at a low quota, and at none: until the destination's second is over.
const LOW_PAUSE: Duration = Duration::from_millis(500);
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);

/// The quota of the current second, as a destination reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaHeaders {
    /// Number of calls that it accepts a second.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u32,
}

impl QuotaHeaders {
    /// Returns how long to stop calls for the sake of other clients. `own_calls` is the largest number of the relay's calls
    /// in the reported usage. A quota that the relay alone can have used is no reason to stop.
    pub fn throttle_hint(self, own_calls: u32) -> Option<Duration> {
        let used = self.limit.saturating_sub(self.remaining);
        if self.remaining > LOW_REMAINING || used <= own_calls {
            return None;
        }
        Some(if self.remaining == 0 { EXHAUSTED_PAUSE } else { LOW_PAUSE })
    }
}

/// When the relay's own calls were made, as far back as they count.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentCalls(VecDeque<Instant>);

impl RecentCalls {
    pub(crate) fn push(&mut self, now: Instant) {
        self.prune(now);
        self.0.push_back(now);
    }

    /// Number of recent calls.
    pub(crate) fn count(&mut self, now: Instant) -> u32 {
        self.prune(now);
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn prune(&mut self, now: Instant) {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) > WINDOW) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn quota(remaining: u32) -> QuotaHeaders {
        QuotaHeaders { limit: 10, remaining }
    }

    #[test]
    fn quota_used_by_own_calls_needs_no_throttle() {
        assert_eq!(
            [quota(0).throttle_hint(10), quota(1).throttle_hint(9), quota(2).throttle_hint(8)],
            [None, None, None]
        );
    }

    #[test]
    fn low_quota_shared_with_others_throttles() {
        assert_eq!(quota(2).throttle_hint(7), Some(LOW_PAUSE));
        assert_eq!(quota(0).throttle_hint(9), Some(EXHAUSTED_PAUSE));
    }

    #[test]
    fn sufficient_quota_needs_no_throttle() {
        assert_eq!(quota(3).throttle_hint(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn recent_calls_are_counted_within_the_window() {
        let (mut calls, start) = (RecentCalls::default(), Instant::now());
        for number in 0..=16 {
            calls.push(start + Duration::from_millis(125) * number);
        }
        assert_eq!(calls.count(start + Duration::from_secs(2)), 11);
        assert_eq!(calls.count(start + Duration::from_secs(9)), 0);
    }
}
