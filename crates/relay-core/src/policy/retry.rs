//! When a failed delivery is retried.
//!
//! See docs/adr/0004-retry-hold-expiry.md.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

use crate::delivery::{AttemptHistory, AttemptResult, Reason, ReasonCode};

/// Minimum wait before another attempt.
const MIN_DELAY: Duration = Duration::from_secs(1);
/// Maximum wait before another attempt.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// Maximum wait that a destination can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// Time for which a failing delivery is retried before it becomes a dead letter.
const MAX_RETRY_AGE: SignedDuration = SignedDuration::from_hours(4 * 24);
/// Time for which a held delivery is retried every minute; after that it is retried every quarter of an hour.
const HELD_FAST_WINDOW: SignedDuration = SignedDuration::from_mins(15);
/// Wait between attempts within that time.
const HELD_FAST_DELAY: Duration = Duration::from_secs(60);

/// Returns the wait after `attempts` failed attempts (at least one): what the destination asked for, else exponential
/// with full jitter, from 1 s to 15 min. `random` is in 0..1.
pub fn retry_delay(attempts: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    if let Some(asked) = retry_after {
        return asked.clamp(MIN_DELAY, MAX_RETRY_AFTER);
    }
    let ceiling = Duration::from_secs(1_u64 << attempts.min(20)).min(MAX_DELAY);
    MIN_DELAY + (ceiling - MIN_DELAY).mul_f64(random.clamp(0.0, 1.0))
}

fn is_expired(failing_since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(failing_since) >= MAX_RETRY_AGE
}

/// Returns the wait before another attempt at a delivery that is held since then.
pub fn held_retry_delay(held_since: Timestamp, now: Timestamp) -> Duration {
    if now.duration_since(held_since) < HELD_FAST_WINDOW { HELD_FAST_DELAY } else { MAX_DELAY }
}

/// Parses a `Retry-After` header (RFC 9110 §10.2.3): seconds, or a date.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date = Duration::from_secs(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs());
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    Some(date.saturating_sub(now).min(MAX_RETRY_AFTER))
}

/// Returns the result for a delivery that failed for a reason that should pass: another attempt, or, after four days of
/// them, a dead letter.
pub fn retry_or_dead_letter(
    history: AttemptHistory,
    reason: Reason,
    retry_after: Option<Duration>,
    now: Timestamp,
    random: f64,
) -> AttemptResult {
    if is_expired(history.failing_since.unwrap_or(now), now) {
        return AttemptResult::DeadLetter(reason);
    }
    let attempts = history.attempts.saturating_add(1);
    AttemptResult::RetryAt {
        at: add_saturating(now, retry_delay(attempts, retry_after, random)),
        reason,
        no_early_retry: pins_next_attempt(retry_after, reason),
    }
}

/// Whether the destination chose the time of the next attempt. Then the success of another delivery does not bring it
/// forward.
pub const fn pins_next_attempt(retry_after: Option<Duration>, reason: Reason) -> bool {
    retry_after.is_some() || matches!(reason.code, ReasonCode::DestinationThrottled)
}

/// Returns the result for a delivery that an operator has to make possible.
pub fn hold(history: AttemptHistory, reason: Reason, now: Timestamp) -> AttemptResult {
    let delay = held_retry_delay(history.held_since.unwrap_or(now), now);
    AttemptResult::HoldUntil { at: add_saturating(now, delay), reason }
}

/// Adds a delay to a time; the latest possible time if that overflows.
pub fn add_saturating(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unix_time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn retry_delay_grows_to_fifteen_minutes() {
        let max_delays: Vec<u64> = (1..=12).map(|attempts| retry_delay(attempts, None, 1.0).as_secs()).collect();
        assert_eq!(max_delays, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
    }

    #[test]
    fn retry_delay_has_full_jitter_above_one_second() {
        assert_eq!(retry_delay(9, None, 0.0), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_honoured_up_to_one_hour() {
        assert_eq!(retry_delay(1, Some(Duration::from_secs(120)), 0.5), Duration::from_secs(120));
        assert_eq!(retry_delay(1, Some(Duration::from_secs(9000)), 0.5), Duration::from_secs(3600));
        assert_eq!(retry_delay(1, Some(Duration::ZERO), 0.5), Duration::from_secs(1));
    }

    #[test]
    fn only_destination_requested_delay_pins_next_attempt() {
        let is_pinned = |code, retry_after| {
            let result = retry_or_dead_letter(
                AttemptHistory::default(),
                Reason::without_status(code),
                retry_after,
                unix_time(0),
                0.5,
            );
            matches!(result, AttemptResult::RetryAt { no_early_retry: true, .. })
        };
        assert!(is_pinned(ReasonCode::DestinationFailed, Some(Duration::from_secs(600))));
        assert!(is_pinned(ReasonCode::DestinationThrottled, None), "its limit is per second");
        assert!(!is_pinned(ReasonCode::DestinationFailed, None));
    }

    #[test]
    fn retry_after_header_is_seconds_or_http_date() {
        let now = unix_time(784_111_777);
        assert_eq!(parse_retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("99999999", now), Some(Duration::from_secs(3600)));
        for invalid in ["soon", "-1", "1.5", ""] {
            assert_eq!(parse_retry_after(invalid, now), None, "{invalid}");
        }
    }

    #[test]
    fn failing_delivery_expires_after_four_days() {
        assert!(!is_expired(unix_time(0), unix_time(3 * 86_400)));
        assert!(is_expired(unix_time(0), unix_time(4 * 86_400)));
    }

    #[test]
    fn held_retry_delay_is_one_minute_then_fifteen() {
        assert_eq!(held_retry_delay(unix_time(0), unix_time(0)), Duration::from_secs(60));
        assert_eq!(held_retry_delay(unix_time(0), unix_time(899)), Duration::from_secs(60));
        assert_eq!(held_retry_delay(unix_time(0), unix_time(900)), Duration::from_secs(900));
    }

    proptest! {
        #[test]
        fn retry_delay_is_between_one_second_and_one_hour(attempts in any::<u32>(), retry_after in prop::option::of(any::<u64>()), random in any::<f64>()) {
            let delay = retry_delay(attempts, retry_after.map(Duration::from_secs), if random.is_nan() { 0.0 } else { random });
            prop_assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_secs(3600));
        }
    }
}
