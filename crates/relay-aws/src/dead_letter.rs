//! A dead letter: a message with the body of what died, and attributes that say why, when and how often.

use std::collections::HashMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use jiff::Timestamp;
use relay::store::StoreFault;
use relay_core::delivery::{Delivery, Reason};

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

/// How a delivery died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub reason: Reason,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When.
    pub at: Timestamp,
}

/// What the attributes of a dead letter say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    pub(crate) reason: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) attempts: u32,
    pub(crate) received_at: Option<Timestamp>,
    pub(crate) died_at: Timestamp,
}

impl Label<'static> {
    /// The label of a delivery that died.
    pub(crate) fn of(delivery: &Delivery, death: Death) -> Self {
        Self {
            reason: death.reason.code.as_str(),
            status: death.reason.status,
            attempts: death.attempts,
            received_at: Some(delivery.received_at),
            died_at: death.at,
        }
    }
}

impl Label<'_> {
    /// The attributes.
    pub(crate) fn attributes(self) -> Result<HashMap<String, MessageAttributeValue>, StoreFault> {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let mut attributes = vec![
            (REASON, value("String", self.reason)?),
            (STATUS, value("String", &status)?),
            (ATTEMPTS, value("Number", &self.attempts.to_string())?),
            (DIED_AT, value("String", &self.died_at.to_string())?),
        ];
        if let Some(received_at) = self.received_at {
            attributes.push((RECEIVED_AT, value("String", &received_at.to_string())?));
        }
        Ok(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

fn value(kind: &str, text: &str) -> Result<MessageAttributeValue, StoreFault> {
    let attribute = MessageAttributeValue::builder().data_type(kind).string_value(text).build();
    attribute.map_err(|fault| StoreFault(fault.to_string()))
}
