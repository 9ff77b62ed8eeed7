//! The time that an invocation may use, from the deadline that Lambda hands over.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Timeout of a delivery worker (the template's `Timeout`).
pub(crate) const WORKER_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest time in which a worker begins another message: a permit, a call and the record of its result.
const MIN_ATTEMPT_TIME: Duration = Duration::from_secs(30);
/// Time reserved for the batch's response.
const RESPONSE_RESERVE: Duration = Duration::from_secs(4);
/// Time reserved, before that, for the record of what became of a delivery.
const RECORD_RESERVE: Duration = Duration::from_secs(1);

/// Deadline of one invocation, and the earlier deadlines that follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBudget {
    deadline: Instant,
}

impl TimeBudget {
    pub(crate) const fn new(deadline: Instant) -> Self {
        Self { deadline }
    }

    pub(crate) fn has_time_for_attempt(self) -> bool {
        self.deadline.saturating_duration_since(Instant::now()) >= MIN_ATTEMPT_TIME
    }

    /// When messages are broken off so that the batch can respond.
    pub(crate) fn response_deadline(self) -> Instant {
        self.deadline.checked_sub(RESPONSE_RESERVE).unwrap_or(self.deadline)
    }

    /// When the batch responds, whether its counts are stored or not.
    pub(crate) fn flush_deadline(self) -> Instant {
        self.response_deadline() + RECORD_RESERVE
    }

    pub(crate) fn record_deadline(self) -> Instant {
        self.deadline.checked_sub(RESPONSE_RESERVE + RECORD_RESERVE).unwrap_or(self.deadline)
    }
}

/// Returns the time until a deadline in Unix milliseconds, for a function with this timeout.
///
/// At the start of an invocation about the whole timeout is left. A result above it, or below half of it, means that the
/// clock of a sandbox that has just been thawed is wrong, or that the deadline is an emulator's. The timeout counts then.
pub(crate) fn time_left(deadline: u64, now: Timestamp, timeout: Duration) -> Duration {
    let now = Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or_default());
    let remaining = Duration::from_millis(deadline).saturating_sub(now);
    if remaining < timeout / 2 { timeout } else { remaining.min(timeout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_deadline_falls_back_to_function_timeout() {
        let now = Timestamp::from_millisecond(1_734_425_918_123).unwrap();
        assert_eq!(time_left(0, now, WORKER_TIMEOUT), WORKER_TIMEOUT);
        assert_eq!(time_left(1_734_425_958_123, now, WORKER_TIMEOUT), Duration::from_secs(40));
    }

    #[test]
    fn skewed_clock_falls_back_to_function_timeout() {
        let now = Timestamp::from_second(1_734_425_918).unwrap();
        let seconds_left = |seconds: u64| time_left((1_734_425_918 + seconds) * 1000, now, WORKER_TIMEOUT).as_secs();
        assert_eq!([seconds_left(60), seconds_left(59), seconds_left(30)], [60, 59, 30]);
        assert_eq!([seconds_left(29), seconds_left(1), seconds_left(65), seconds_left(600)], [60; 4]);
    }
}
