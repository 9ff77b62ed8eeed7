//! What was sent, what was acknowledged and what arrived.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use relay_core::delivery::{Delivery, DeliveryKind};
use serde_json::Value;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
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
    pub kind: Kind,
}

impl Item {
    /// The item that a body of that kind is about.
    #[must_use]
    pub fn read(kind: Kind, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let (contact, step) = match kind {
            Kind::Webhook => (&body["contactIdentity"]["email"], &body["contact"]["step"]),
            Kind::Contact => (&body["email"], &body["step"]),
            Kind::Event => (&body["email"], &body["eventProperties"]["step"]),
        };
        Some(Self { contact: contact.as_str()?.to_owned(), step: step.as_u64()?.try_into().ok()?, kind })
    }

    /// The item that a delivery is about.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Option<Self> {
        let kind = match delivery.kind {
            DeliveryKind::ClayRow { .. } => Kind::Webhook,
            DeliveryKind::LoopsContact => Kind::Contact,
            DeliveryKind::LoopsEvent { .. } => Kind::Event,
        };
        Self::read(kind, &delivery.body)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.contact, self.step, self.kind)
    }
}

/// What the sender of an item has done, and what it was told. Times are those since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// How many requests there were.
    pub requests: usize,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    /// How many of those were stored, to be delivered later.
    pub stored: usize,
    /// How many of them came to no answer of the relay: what became of them, their sender cannot know.
    pub unanswered: usize,
    /// How many of them were answered with the far end's refusal.
    pub refused: usize,
    /// Whether the last one was.
    pub refused_at_last: bool,
    /// When the first was begun.
    pub begun: Duration,
    /// When the last had come to its end.
    pub over: Duration,
}

/// What the far end did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took it.
    Taken,
    /// It refused it for good.
    Refused,
    /// Neither: it may come again.
    Failed,
}

/// A request at the far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// What it was about.
    pub item: Item,
    /// What was done with it.
    pub outcome: Outcome,
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
    pub sent: BTreeMap<Item, Told>,
    /// What came to the far end, in its order.
    pub came: Vec<Came>,
    /// What the far end took without saying so; an item as often as that was so.
    pub unsaid: Vec<Item>,
    /// What may have been under way when the relay was killed; an item once for each kill.
    pub under_way: Vec<Item>,
    /// What the relay keeps for a person when all is over.
    pub dead_letters: Vec<DeadLetter>,
    /// How many requests an end that was well had to refuse, because more than ten came within a second.
    pub too_many: usize,
    /// How many requests came where a redirect led.
    pub redirects_followed: usize,
    /// How many deliveries still waited when nobody waited for them any more.
    pub waiting: usize,
    /// Whether there was to be a fault.
    pub is_faulty: bool,
    /// How many requests the far end did not answer well, by its ailment, and how often the relay was struck.
    pub struck: usize,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (item, told) in &self.sent {
            let (begun, over) = (told.begun.as_secs_f64(), told.over.as_secs_f64());
            write!(f, "{item}, from {begun:.3} to {over:.3} s: {} requests, ", told.requests)?;
            writeln!(
                f,
                "{} acknowledged ({} stored), {} unanswered, {} refused",
                told.acknowledged, told.stored, told.unanswered, told.refused
            )?;
        }
        for Came { item, outcome, at } in &self.came {
            writeln!(f, "{at} {item}: {outcome:?}")?;
        }
        let notes = [("taken without a word", &self.unsaid), ("under way at a kill", &self.under_way)];
        for (what, items) in notes {
            for item in items {
                writeln!(f, "{what}: {item}")?;
            }
        }
        for DeadLetter { item, reason, status } in &self.dead_letters {
            writeln!(f, "dead letter: {item}: {reason} {status:?}")?;
        }
        Ok(())
    }
}
