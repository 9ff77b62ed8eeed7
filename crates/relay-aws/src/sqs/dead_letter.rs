//! A dead letter: a message with the body of what died, and attributes that say why, when and how often.

use std::collections::HashMap;

use aws_lambda_events::sqs::SqsMessage;
use aws_sdk_sqs::types::MessageAttributeValue;
use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;
use relay_core::delivery::{Delivery, Reason};

use crate::sqs::receive_limits;

/// The message attribute with the reason.
pub const REASON: &str = "reason";
/// The reason of a message that is no delivery.
pub const MALFORMED: &str = "malformed";
/// The message attribute with the status of the far end's last answer, or `none`.
pub const STATUS: &str = "status";
/// The message attribute with how many attempts were begun: a number.
pub const ATTEMPTS: &str = "attempts";
/// The message attribute with when the relay took it: RFC 3339, in UTC. Missing where that is not known.
pub const RECEIVED_AT: &str = "received_at";
/// The message attribute with when it died: RFC 3339, in UTC.
pub const DIED_AT: &str = "died_at";

/// How long after a death what sent the delivery before may still come into the queue: a function sends for as long as it
/// may run, which is 20 seconds (the template's `Timeout`), and SQS' clock and a function's differ.
const IN_FLIGHT_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// How a delivery died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureInfo {
    /// Why.
    pub reason: Reason,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When.
    pub at: Timestamp,
}

impl FailureInfo {
    /// By what the letter of this death is known to its queue, whoever sends it there, and by whichever message.
    #[must_use]
    pub(crate) fn dedup_id(&self, delivery: &Delivery) -> String {
        format!("{}_{}", delivery.id, self.at.as_millisecond())
    }
}

/// Up to when a delivery's deaths are over for this message, which may send it again: the one whose letter it was, as its
/// attributes say, and any that lies so far back that a person must have put the message there.
pub(crate) fn superseded_failures_until(message: &SqsMessage) -> Timestamp {
    let died_at = message.message_attributes.get(DIED_AT).and_then(|died_at| died_at.string_value.as_deref());
    let redriven_failure_at = died_at.and_then(|at| at.parse().ok());
    let sent_before_grace = receive_limits::sent_at(message).and_then(|sent| sent.checked_sub(IN_FLIGHT_GRACE).ok());
    redriven_failure_at.max(sent_before_grace).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What the attributes of a dead letter say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterAttributes<'a> {
    pub(crate) reason: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) attempts: u32,
    pub(crate) received_at: Option<Timestamp>,
    pub(crate) died_at: Timestamp,
}

impl DeadLetterAttributes<'static> {
    /// The label of a delivery that died.
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
    /// The attributes.
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

fn attribute_value(data_type: &str, content: &str) -> Result<MessageAttributeValue, StoreError> {
    let attribute = MessageAttributeValue::builder().data_type(data_type).string_value(content).build();
    attribute.map_err(|error| StoreError(error.to_string()))
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
        assert_eq!(superseded_failures_until(&message(1000, Some(999))), at(999));
    }

    #[test]
    fn message_without_attributes_supersedes_old_failures() {
        assert_eq!(superseded_failures_until(&message(1000, None)), at(940));
        assert_eq!(superseded_failures_until(&message(1000, Some(7))), at(940), "an old letter is no worse than none");
        assert_eq!(superseded_failures_until(&SqsMessage::default()), at(0), "what says neither outlives nothing");
    }
}
