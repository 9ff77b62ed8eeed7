//! Receive limits: how long and how often a message may be received before a worker dead-letters it.
//!
//! SQS removes a message without a reason after 1,000 receives (the template's `maxReceiveCount`, the maximum) and after 14
//! days. So a worker dead-letters it before, with a reason and a record in the ledger: after [`MAX_AGE`] if it was received
//! again and again, or after [`MAX_RECEIVES`] receives. An old message that was seldom received is attempted first.
//!
//! No message may reach that many receives within its ten days, whether it waits for an operator, for a destination that is
//! down (it comes back without an attempt), or for earlier messages of its contact. The first 30 receives have no minimum
//! distance. Later ones are at least 10 minutes apart, and from the 800th 45 minutes: 770 × 10 min + 150 × 45 min = 10.03 days
//! until the 950th. A delivery that fails in every attempt expires after 4 days, before the 800th receive. Only a worker that
//! is killed over and over receives a message more often, because it comes back after the queue's 6 minutes.

use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use jiff::{SignedDuration, Timestamp};

/// Number of receives after which a message expires.
const MAX_RECEIVES: u32 = 950;
/// Age at which a message expires: the time that an operator has to fix what it waits for.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(10 * 24);
const SLOW_FROM_RECEIVE: u32 = 30;
const SLOW_DELAY: Duration = Duration::from_secs(10 * 60);
const SLOWER_FROM_RECEIVE: u32 = 800;
const SLOWER_DELAY: Duration = Duration::from_secs(45 * 60);

pub(crate) fn receive_count(message: &SqsMessage) -> u32 {
    attribute(message, "ApproximateReceiveCount").unwrap_or(1)
}

pub(crate) fn sent_at(message: &SqsMessage) -> Option<Timestamp> {
    Timestamp::from_millisecond(attribute(message, "SentTimestamp")?).ok()
}

/// Whether a message has reached its age or receive limit.
pub(crate) fn is_expired(message: &SqsMessage, now: Timestamp) -> bool {
    let is_old = || sent_at(message).is_some_and(|sent| now.duration_since(sent) >= MAX_AGE);
    match receive_count(message) {
        0..SLOW_FROM_RECEIVE => false,
        SLOW_FROM_RECEIVE..MAX_RECEIVES => is_old(),
        MAX_RECEIVES.. => true,
    }
}

/// Returns the shortest visibility timeout of a message that was received so often.
pub(crate) const fn min_delay(receive_count: u32) -> Duration {
    match receive_count {
        0..SLOW_FROM_RECEIVE => Duration::ZERO,
        SLOW_FROM_RECEIVE..SLOWER_FROM_RECEIVE => SLOW_DELAY,
        SLOWER_FROM_RECEIVE.. => SLOWER_DELAY,
    }
}

fn attribute<T: std::str::FromStr>(message: &SqsMessage, name: &str) -> Option<T> {
    message.attributes.get(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use relay_core::policy::retry;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn message(receive_count: u32, sent: Timestamp) -> SqsMessage {
        let mut message = SqsMessage::default();
        message.attributes.insert("ApproximateReceiveCount".to_owned(), receive_count.to_string());
        message.attributes.insert("SentTimestamp".to_owned(), sent.as_millisecond().to_string());
        message
    }

    /// Returns the age of a message at its last receive, if each comes as soon as allowed.
    fn earliest_expiry(requested_delay: impl Fn(Duration) -> Duration) -> Duration {
        (1..MAX_RECEIVES)
            .fold(Duration::ZERO, |at, receive_count| at + requested_delay(at).max(min_delay(receive_count)))
    }

    #[test]
    fn receive_limit_is_not_reached_within_ten_days() {
        assert!(earliest_expiry(|_| Duration::ZERO) >= 10 * DAY);
    }

    #[test]
    fn held_message_is_kept_for_ten_days() {
        let (start, at) = (Timestamp::UNIX_EPOCH, |passed: Duration| Timestamp::UNIX_EPOCH + passed);
        assert!(earliest_expiry(|passed| retry::held_retry_delay(start, at(passed))) >= 10 * DAY);
        assert!(!is_expired(&message(900, start), at(10 * DAY - Duration::from_secs(1))));
    }

    #[test]
    fn message_expires_before_sqs_removes_it() {
        let now = Timestamp::UNIX_EPOCH + 10 * DAY;
        assert!(is_expired(&message(950, now), now) && !is_expired(&message(949, now), now));
        assert!(is_expired(&message(30, Timestamp::UNIX_EPOCH), now));
        assert!(!is_expired(&SqsMessage::default(), now), "what says neither is worked on");
    }

    #[test]
    fn old_message_received_once_is_not_expired() {
        assert!(!is_expired(&message(1, Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH + 13 * DAY));
    }

    #[test]
    fn failing_message_expires_by_age_before_receive_limit() {
        let slow_period = 770 * SLOW_DELAY;
        assert!(slow_period >= 4 * DAY, "so long are the receives from the 30th to the 800th");
    }
}
