//! A dead letter: the message of a delivery that failed for good, with attributes that say why, when and after how many attempts.

use std::collections::HashMap;

use aws_lambda_events::sqs::SqsMessage;
use aws_sdk_sqs::types::MessageAttributeValue;
use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;
use relay_core::delivery::{Delivery, Reason};

use crate::sqs::receive_limits;

/// Message attribute with the reason.
pub const REASON: &str = "reason";
/// Reason of a message that carries no delivery.
pub const MALFORMED: &str = "malformed";
/// Message attribute with the status of the destination's last response, or `none`.
pub const STATUS: &str = "status";
/// Message attribute with the number of attempts that were begun.
pub const ATTEMPTS: &str = "attempts";
/// Message attribute with the time at which the relay received the delivery: RFC 3339, in UTC. Missing if unknown.
pub const RECEIVED_AT: &str = "received_at";
/// Message attribute with the time of the failure: RFC 3339, in UTC.
pub const DIED_AT: &str = "died_at";

/// Longest time after a failure in which a function may still enqueue the delivery from before it: a function runs for 20
/// seconds at most (the template's `Timeout`), and its clock differs from that of SQS.
const IN_FLIGHT_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// The failure that ended a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureInfo {
    /// Reason.
    pub reason: Reason,
    /// Number of attempts that were begun.
    pub attempts: u32,
    /// Time of the failure.
    pub at: Timestamp,
}

impl FailureInfo {
    /// Returns the deduplication id of this failure's dead letter, which does not depend on the message.
    pub(crate) fn dedup_id(&self, delivery: &Delivery) -> String {
        format!("{}_{}", delivery.id, self.at.as_millisecond())
    }
}

/// Returns the time up to which earlier failures are superseded by this message: the `died_at` attribute of a redriven
/// message, or one minute before the message was sent, whichever is later.
pub(crate) fn ignore_failures_until(message: &SqsMessage) -> Timestamp {
    let died_at = message.message_attributes.get(DIED_AT).and_then(|died_at| died_at.string_value.as_deref());
    let redriven_failure_at = died_at.and_then(|at| at.parse().ok());
    let sent_before_grace = receive_limits::sent_at(message).and_then(|sent| sent.checked_sub(IN_FLIGHT_GRACE).ok());
    redriven_failure_at.max(sent_before_grace).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterAttributes<'a> {
    pub(crate) reason: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) attempts: u32,
    pub(crate) received_at: Option<Timestamp>,
    pub(crate) died_at: Timestamp,
}

impl DeadLetterAttributes<'static> {
    pub(crate) fn from_failure(delivery: &Delivery, failure: FailureInfo) -> Self {
        Self {
            reason: failure.reason.code.as_str(),
            status: failure.reason.status,
            attempts: failure.attempts,
            received_at: Some(delivery.received_at),
            died_at: failure.at,
        }
    }
}

impl DeadLetterAttributes<'_> {
    pub(crate) fn to_message_attributes(self) -> Result<HashMap<String, MessageAttributeValue>, StoreError> {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let mut attributes = vec![
            (REASON, attribute_value("String", self.reason)?),
            (STATUS, attribute_value("String", &status)?),
            (ATTEMPTS, attribute_value("Number", &self.attempts.to_string())?),
            (DIED_AT, attribute_value("String", &self.died_at.to_string())?),
        ];
        if let Some(received_at) = self.received_at {
            attributes.push((RECEIVED_AT, attribute_value("String", &received_at.to_string())?));
        }
        Ok(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

pub(crate) fn attribute_value(data_type: &str, content: &str) -> Result<MessageAttributeValue, StoreError> {
    let attribute = MessageAttributeValue::builder().data_type(data_type).string_value(content).build();
    attribute.map_err(StoreError::new)
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::sqs::SqsMessageAttribute;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn message(sent: i64, died_at: Option<i64>) -> SqsMessage {
        let mut message = SqsMessage::default();
        message.attributes.insert("SentTimestamp".to_owned(), at(sent).as_millisecond().to_string());
        if let Some(died_at) = died_at {
            let mut attribute = SqsMessageAttribute::default();
            attribute.string_value = Some(at(died_at).to_string());
            message.message_attributes.insert(DIED_AT.to_owned(), attribute);
        }
        message
    }

    #[test]
    fn redriven_message_supersedes_its_own_failure() {
        assert_eq!(ignore_failures_until(&message(1000, Some(999))), at(999));
    }

    #[test]
    fn message_without_attributes_supersedes_old_failures() {
        assert_eq!(ignore_failures_until(&message(1000, None)), at(940));
        assert_eq!(ignore_failures_until(&message(1000, Some(7))), at(940), "an old letter is no worse than none");
        assert_eq!(ignore_failures_until(&SqsMessage::default()), at(0), "what says neither outlives nothing");
    }
}
