//! What was sent, what was acknowledged and what arrived.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use relay_core::delivery::{Delivery, DeliveryKind};
use serde_json::Value;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// A webhook: a repeat is told by its id.
    Webhook,
    /// A contact's update: every request is an update of its own.
    Contact,
    /// An event: a repeat is told by its key.
    Event,
}

/// One of the things that are sent: a contact's step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The contact's address.
    pub contact: String,
    /// Which of its steps.
    pub step: u32,
    /// What it is.
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
        };
        Some(Self { contact: contact.as_str()?.to_owned(), step: step.as_u64()?.try_into().ok()?, kind })
    }

    /// The item that a delivery is about.
    #[must_use]
    pub fn from_delivery(delivery: &Delivery) -> Option<Self> {
        let kind = match delivery.kind {
            DeliveryKind::ClayRow { .. } => ItemKind::Webhook,
            DeliveryKind::LoopsContact => ItemKind::Contact,
            DeliveryKind::LoopsEvent { .. } => ItemKind::Event,
        };
        Self::parse_body(kind, &delivery.body)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.contact, self.step, self.kind)
    }
}

/// What the sender of an item has done, and what it was told. Times are those since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentItem {
    /// How many requests there were.
    pub requests: usize,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    /// How many of those were stored, to be delivered later.
    pub queued: usize,
    /// How many of them came to no answer of the relay: what became of them, their sender cannot know.
    pub unanswered: usize,
    /// How many of them were answered with the far end's refusal.
    pub rejected: usize,
    /// Whether the last one was.
    pub last_rejected: bool,
    /// When the first was begun.
    pub started_at: Duration,
    /// When the last had come to its end.
    pub finished_at: Duration,
}

/// What the far end did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationOutcome {
    /// It took it.
    Accepted,
    /// It refused it for good.
    Rejected,
    /// Neither: it may come again.
    Failed,
}

/// A request at the far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedItem {
    /// What it was about.
    pub item: Item,
    /// What was done with it.
    pub outcome: DestinationOutcome,
    /// When, for who reads a log beside it.
    pub at: Timestamp,
}

/// A dead letter that the relay keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it is about.
    pub item: Item,
    /// Its reason, as the relay has it.
    pub reason: String,
    /// The status that goes with it.
    pub status: Option<u16>,
}

/// Everything that happened in one direction.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What was sent, and what its sender was told.
    pub sent: BTreeMap<Item, SentItem>,
    /// What came to the far end, in its order.
    pub received: Vec<ReceivedItem>,
    /// What the far end took without saying so; an item as often as that was so.
    pub accepted_silently: Vec<Item>,
    /// What may have been under way when the relay was killed; an item once for each kill.
    pub in_flight_at_crash: Vec<Item>,
    /// What the relay keeps for a person when all is over.
    pub dead_letters: Vec<DeadLetter>,
    /// How many requests an end that was well had to refuse, because more than ten came within a second.
    pub rate_limit_violations: usize,
    /// How many requests came where a redirect led.
    pub redirects_followed: usize,
    /// How many deliveries still waited when nobody waited for them any more.
    pub waiting: usize,
    /// Whether there was to be a fault.
    pub is_faulty: bool,
    /// How many requests the far end did not answer well, by its ailment, and how often the relay was struck.
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
