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
/// The longest wait that is believed: the longest that the rules give, and what two clocks may differ by. A later time was
/// written by a clock that was wrong.
const MAX_CREDIBLE_WAIT: SignedDuration = SignedDuration::from_mins(65);
/// The longest time between two attempts in which a delivery counts as tried. It is the longest wait that the rules give.
const MAX_TRIED_GAP: SignedDuration = SignedDuration::from_hours(1);
/// How long after an attempt with an unknown outcome an event may be sent again: Loops remembers its key for 24 hours (Loops
/// API reference, "Send event"), less an hour for the attempt itself and for clocks that differ.
const UNKNOWN_OUTCOME_WINDOW: SignedDuration = SignedDuration::from_hours(23);
/// How far ahead of now such an attempt may be recorded, because clocks differ. Further ahead, its time is not known.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);
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

/// Returns the latest time until which a delivery, a lease or a lock may say that it waits. A later one is not believed.
pub fn latest_credible_wait(now: Timestamp) -> Timestamp {
    now.saturating_add(MAX_CREDIBLE_WAIT).unwrap_or(Timestamp::MAX)
}

/// Returns since when a delivery fails, without the time in which nobody tried it: what is over an hour between its last
/// attempt and now does not count.
pub fn failing_since_while_tried(failing_since: Timestamp, last_tried_at: Timestamp, now: Timestamp) -> Timestamp {
    let untried = now.duration_since(last_tried_at).saturating_sub(MAX_TRIED_GAP).max(SignedDuration::ZERO);
    failing_since.saturating_add(untried).unwrap_or(now).min(now)
}

/// Whether Loops may have processed an event since that time and has forgotten its key by now, so that another attempt may
/// reach people twice.
pub fn is_resend_unsafe(unknown_since: Option<Timestamp>, now: Timestamp) -> bool {
    unknown_since.is_some_and(|since| !(-MAX_CLOCK_SKEW..UNKNOWN_OUTCOME_WINDOW).contains(&now.duration_since(since)))
}

/// Returns between which times [`is_resend_unsafe`] is false: after the first, and not after the second.
pub fn safe_resend_range(now: Timestamp) -> (Timestamp, Timestamp) {
    let after = now.saturating_sub(UNKNOWN_OUTCOME_WINDOW).unwrap_or(Timestamp::MIN);
    (after, now.saturating_add(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MAX))
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

    #[test]
    fn time_in_which_nobody_tried_does_not_count() {
        let hour = 3600;
        let since = |failing: i64, tried: i64, now: i64| {
            failing_since_while_tried(unix_time(failing), unix_time(tried), unix_time(now)).as_second()
        };
        assert_eq!(since(0, hour, 2 * hour), 0);
        assert_eq!(since(0, 10, 10 + 121 * hour), 120 * hour, "five days off count an hour");
        assert_eq!(since(30 * hour, 30 * hour, hour), hour, "the clock was ahead");
        assert_eq!(since(0, 30 * hour, hour), 0, "the clock was ahead at the last attempt");
    }

    #[test]
    fn resend_is_safe_for_23_hours_of_a_credible_clock() {
        let is_unsafe = |since: i64| is_resend_unsafe(Some(unix_time(since)), unix_time(86_400));
        let hour = 3600;
        assert!(!is_resend_unsafe(None, unix_time(0)));
        for (since, expected) in
            [(0, true), (hour, true), (hour + 1, false), (86_400, false), (25 * hour, false), (25 * hour + 1, true)]
        {
            assert_eq!(is_unsafe(since), expected, "{since}");
            let (after, before) = safe_resend_range(unix_time(86_400));
            assert_eq!(!(after < unix_time(since) && unix_time(since) <= before), expected, "{since}");
        }
    }

    proptest! {
        #[test]
        fn retry_delay_is_between_one_second_and_one_hour(attempts in any::<u32>(), retry_after in prop::option::of(any::<u64>()), random in any::<f64>()) {
            let delay = retry_delay(attempts, retry_after.map(Duration::from_secs), if random.is_nan() { 0.0 } else { random });
            prop_assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_secs(3600));
        }
    }
}
