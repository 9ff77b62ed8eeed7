//! How much room an end says that it has left, and whether somebody else is taking of it.
//!
//! Loops tells with every answer what is left of the team's second. What the relay has taken of it is known here; the rest
//! was taken by others.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back the relay's own calls are counted: the end's second, and what a call may take to arrive and be answered. So
/// a call of one's own is not taken for somebody else's.
const COUNTED: Duration = Duration::from_millis(1250);
/// So much room is little: it is gone before the next answers are here.
const LITTLE: u32 = 2;
/// For how long an end is left alone that has little room, and one that has none: until its second is over.
const LITTLE_PAUSE: Duration = Duration::from_millis(500);
const NONE_PAUSE: Duration = Duration::from_secs(1);

/// What an end says of its second (Loops API reference, "Rate limiting": `x-ratelimit-limit`, `x-ratelimit-remaining`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How many calls it takes a second.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u32,
}

impl Room {
    /// For how long the end is to be left alone, for the sake of others who use it. `own` is the most calls of the relay
    /// that may be among those that were counted; what the relay alone can have used up is no reason.
    #[must_use]
    pub fn pause(self, own: u32) -> Option<Duration> {
        let used = self.limit.saturating_sub(self.remaining);
        if self.remaining > LITTLE || used <= own {
            return None;
        }
        Some(if self.remaining == 0 { NONE_PAUSE } else { LITTLE_PAUSE })
    }
}

/// When the relay's own calls were made, as far back as they count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(VecDeque<Instant>);

impl Calls {
    /// Notes a call.
    pub(crate) fn made(&mut self, now: Instant) {
        self.forget_the_old(now);
        self.0.push_back(now);
    }

    /// How many there were lately.
    pub(crate) fn lately(&mut self, now: Instant) -> u32 {
        self.forget_the_old(now);
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn forget_the_old(&mut self, now: Instant) {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) > COUNTED) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn left(remaining: u32) -> Room {
        Room { limit: 10, remaining }
    }

    #[test]
    fn what_the_relay_alone_has_used_up_is_no_reason_to_pause() {
        assert_eq!([left(0).pause(10), left(1).pause(9), left(2).pause(8)], [None, None, None]);
    }

    #[test]
    fn where_others_take_part_little_room_is_left_to_them() {
        assert_eq!(left(2).pause(7), Some(LITTLE_PAUSE));
        assert_eq!(left(0).pause(9), Some(NONE_PAUSE));
    }

    #[test]
    fn as_long_as_there_is_room_others_do_not_matter() {
        assert_eq!(left(3).pause(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_over_the_ends_second() {
        let (mut calls, start) = (Calls::default(), Instant::now());
        for number in 0..=16 {
            calls.made(start + Duration::from_millis(125) * number);
        }
        assert_eq!(calls.lately(start + Duration::from_secs(2)), 11);
        assert_eq!(calls.lately(start + Duration::from_secs(9)), 0);
    }
}
