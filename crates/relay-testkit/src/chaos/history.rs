//! What was sent, acknowledged and received.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use relay_core::delivery::{Delivery, DeliveryKind};
use serde_json::Value;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// A webhook, identified by its id.
    Webhook,
    /// A contact's update: every request is an update of its own.
    Contact,
    /// An event, identified by its key.
    Event,
    /// A transactional e-mail, identified by its key.
    Email,
}

impl ItemKind {
    /// Whether it has an idempotency key: then the destination accepts it once, however often it is sent.
    #[must_use]
    pub const fn has_key(self) -> bool {
        matches!(self, Self::Event | Self::Email)
    }
}

/// One of the things that are sent: a contact's step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The contact's address.
    pub contact: String,
    /// Which of its steps.
    pub step: u32,
    /// The kind.
    pub kind: ItemKind,
}

impl Item {
    /// The item that a body of that kind is about.
    #[must_use]
    pub fn parse_body(kind: ItemKind, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let (contact, step) = match kind {
            ItemKind::Webhook => (&body["contactIdentity"]["email"], &body["contact"]["step"]),
            ItemKind::Contact => (&body["email"], &body["step"]),
            ItemKind::Event => (&body["email"], &body["eventProperties"]["step"]),
            ItemKind::Email => (&body["email"], &body["dataVariables"]["step"]),
        };
        Some(Self { contact: contact.as_str()?.to_owned(), step: step.as_u64()?.try_into().ok()?, kind })
    }

    /// The item that a delivery is about.
    #[must_use]
    pub fn from_delivery(delivery: &Delivery) -> Option<Self> {
        let kind = match delivery.kind {
            DeliveryKind::ClayRow { .. } => ItemKind::Webhook,
            DeliveryKind::LoopsEvent { .. } => ItemKind::Event,
            DeliveryKind::LoopsEmail { .. } => ItemKind::Email,
            _ => ItemKind::Contact,
        };
        Self::parse_body(kind, &delivery.body)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.contact, self.step, self.kind)
    }
}

/// Requests and responses of an item's sender. Times are relative to the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentItem {
    /// How many requests there were.
    pub requests: usize,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    /// How many of those were stored, to be delivered later.
    pub queued: usize,
    /// Requests without a response: the sender cannot know their outcome.
    pub unanswered: usize,
    /// Requests that were answered with the destination's rejection.
    pub rejected: usize,
    /// Whether the last one was.
    pub last_rejected: bool,
    /// When the first was begun.
    pub started_at: Duration,
    /// When the last of them ended.
    pub finished_at: Duration,
}

/// Outcome of a request at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationOutcome {
    /// It was accepted.
    Accepted,
    /// It refused it for good.
    Rejected,
    /// Neither: it may be retried.
    Failed,
}

/// A request at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedItem {
    /// The item in its body.
    pub item: Item,
    /// Its outcome.
    pub outcome: DestinationOutcome,
    /// Time of arrival, to compare with a log.
    pub at: Timestamp,
}

/// A dead letter of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The item in its body.
    pub item: Item,
    /// Its reason, as the relay has it.
    pub reason: String,
    /// The destination's last status.
    pub status: Option<u16>,
}

/// Everything that happened in one direction.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The items that were sent.
    pub sent: BTreeMap<Item, SentItem>,
    /// The requests at the destination, in order.
    pub received: Vec<ReceivedItem>,
    /// Items that the destination accepted without a response, once for each time.
    pub accepted_silently: Vec<Item>,
    /// Items that may have been in flight when the relay was killed, once for each kill.
    pub in_flight_at_crash: Vec<Item>,
    /// The dead letters at the end.
    pub dead_letters: Vec<DeadLetter>,
    /// Requests over the rate limit of a destination without a fault.
    pub rate_limit_violations: usize,
    /// Requests to a redirect's target.
    pub redirects_followed: usize,
    /// Deliveries that still waited at the timeout.
    pub waiting: usize,
    /// Whether the scenario has a fault.
    pub is_faulty: bool,
    /// Requests that met a destination fault, and relay faults that were injected.
    pub faults_hit: usize,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (item, sent_item) in &self.sent {
            let (started, finished) = (sent_item.started_at.as_secs_f64(), sent_item.finished_at.as_secs_f64());
            write!(f, "{item}, from {started:.3} to {finished:.3} s: {} requests, ", sent_item.requests)?;
            writeln!(
                f,
                "{} acknowledged ({} stored), {} unanswered, {} refused",
                sent_item.acknowledged, sent_item.queued, sent_item.unanswered, sent_item.rejected
            )?;
        }
        for ReceivedItem { item, outcome, at } in &self.received {
            writeln!(f, "{at} {item}: {outcome:?}")?;
        }
        let item_lists =
            [("taken without a word", &self.accepted_silently), ("under way at a kill", &self.in_flight_at_crash)];
        for (label, items) in item_lists {
            for item in items {
                writeln!(f, "{label}: {item}")?;
            }
        }
        for DeadLetter { item, reason, status } in &self.dead_letters {
            writeln!(f, "dead letter: {item}: {reason} {status:?}")?;
        }
        Ok(())
    }
}
