//! Dead letters, to be looked at, sent again or dropped.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::delivery::{Delivery, DeliveryKind, Direction, ReasonCode};

use crate::error::Error;
use crate::operations::record::DeadLetterRecord;

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// By what this letter is told from every other, also from a later one of the same delivery.
    pub key: String,
    /// By what a queue is told that it is done with; nothing in a data folder.
    pub receipt_handle: Option<String>,
    /// The direction.
    pub direction: Direction,
    /// What it holds; nothing where that is no delivery of this relay.
    pub delivery: Option<Delivery>,
    /// What it holds where that is no delivery.
    pub raw_body: Option<Bytes>,
    /// How long its body is, in bytes.
    pub body_len: usize,
    /// Why it died; nothing where the queue itself has taken it away.
    pub reason: Option<String>,
    /// The far end's status, where that is the reason.
    pub status: Option<u16>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
    /// When it died.
    pub dead_lettered_at: Option<Timestamp>,
}

/// What is done, or would be, where a letter is to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedriveOutcome {
    /// It goes to the queue of its direction.
    Redriven,
    /// It went there before, and only had not been taken away.
    AlreadyRedriven,
    /// It is known as delivered: only the letter is taken away.
    AlreadyDelivered,
    /// Something newer of its contact was delivered, or waits: it would overwrite that.
    Superseded,
    /// A row of its contact is being sent just now.
    Busy,
    /// Another body was delivered under its id.
    Conflict,
    /// It holds no delivery of this relay.
    Unreadable,
    /// It is larger than Clay takes, and always will be: a worker would only hold it.
    TooLarge,
    /// It is no dead letter any more.
    NotFound,
}

impl RedriveOutcome {
    /// The verdict as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redriven => "sent",
            Self::AlreadyRedriven => "sent_before",
            Self::AlreadyDelivered => "delivered_before",
            Self::Superseded => "outdated",
            Self::Busy => "busy",
            Self::Conflict => "conflict",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::NotFound => "gone",
        }
    }

    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Redriven,
        Self::AlreadyRedriven,
        Self::AlreadyDelivered,
        Self::Superseded,
        Self::Busy,
        Self::Conflict,
        Self::Unreadable,
        Self::TooLarge,
        Self::NotFound,
    ];

    /// What is done with the letter, for a table: of what would be done, or of what was.
    #[must_use]
    pub fn description(self, applied: bool) -> String {
        let (planned_text, applied_text, explanation) = match self {
            Self::Redriven => ("send again", "sent again", ""),
            Self::AlreadyRedriven => ("take away", "taken away", ": it was sent again before"),
            Self::AlreadyDelivered => ("take away", "taken away", ": it is delivered"),
            Self::Superseded => ("leave", "left", ": something newer of its contact was delivered (--even-if-older)"),
            Self::Busy => ("leave", "left", ": a row of its contact is being sent (try again)"),
            Self::Conflict => ("leave", "left", ": another body was delivered under its id (drop it)"),
            Self::Unreadable => ("leave", "left", ": it is no delivery of this relay (drop it)"),
            Self::TooLarge => ("leave", "left", ": it is larger than Clay takes (drop it)"),
            Self::NotFound => ("nothing", "nothing", ": it is no dead letter any more"),
        };
        format!("{}{explanation}", if applied { applied_text } else { planned_text })
    }

    /// Whether the letter stays where it is.
    #[must_use]
    pub const fn stays_in_dlq(self) -> bool {
        matches!(self, Self::Superseded | Self::Busy | Self::Conflict | Self::Unreadable | Self::TooLarge)
    }
}

/// The dead letters of a relay. Reading leases them; [`release`](DeadLetterQueue::release) ends the leases.
pub trait DeadLetterQueue {
    /// Some more letters; none where all that can be had were read.
    ///
    /// # Errors
    /// When they cannot be read.
    fn next_page(&mut self) -> impl Future<Output = Result<Vec<DeadLetter>, Error>>;

    /// What sending a letter again would come to. Changes nothing.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn plan_redrive(
        &self,
        dead_letter: &DeadLetter,
        even_if_older: bool,
    ) -> impl Future<Output = Result<RedriveOutcome, Error>>;

    /// Sends a letter again. Ended in the middle, it can be done again, and nothing is delivered twice.
    ///
    /// # Errors
    /// When it cannot be done, or only in part.
    fn redrive(
        &mut self,
        dead_letter: &DeadLetter,
        even_if_older: bool,
    ) -> impl Future<Output = Result<RedriveOutcome, Error>>;

    /// Throws a letter away; false where it is none any more.
    ///
    /// # Errors
    /// When it cannot be done.
    fn delete(&mut self, dead_letter: &DeadLetter) -> impl Future<Output = Result<bool, Error>>;

    /// Lets others have what was read and is still there.
    fn release(&mut self) -> impl Future<Output = ()>;

    /// How many letters there are, as far as that is known, those that cannot be read now included.
    ///
    /// # Errors
    /// When they cannot be counted.
    fn count(&self) -> impl Future<Output = Result<u64, Error>>;
}

impl DeadLetter {
    /// The letter, as it is told.
    #[must_use]
    pub fn to_record(&self, outcome: Option<&'static str>) -> DeadLetterRecord {
        let delivery = self.delivery.as_ref();
        let (route, webhook_id) = match delivery.map(|delivery| &delivery.kind) {
            Some(DeliveryKind::ClayRow { route, webhook_id }) => (Some(route.clone()), Some(webhook_id.clone())),
            Some(DeliveryKind::LoopsContact | DeliveryKind::LoopsEvent { .. }) | None => (None, None),
        };
        DeadLetterRecord {
            id: self.id().to_owned(),
            direction: self.direction,
            kind: delivery.map(|delivery| delivery.kind.as_str().to_owned()),
            reason: self.reason.clone(),
            status: self.status,
            attempts: self.attempts,
            route: route.filter(|route| !route.is_empty()),
            webhook_id,
            received_at: delivery.map(|delivery| delivery.received_at),
            died_at: self.dead_lettered_at,
            bytes: u64::try_from(self.body_len).unwrap_or(u64::MAX),
            outcome,
        }
    }

    /// Why it cannot be sent again, whatever is known of its delivery.
    #[must_use]
    pub fn not_redrivable(&self) -> Option<RedriveOutcome> {
        match &self.delivery {
            None => Some(RedriveOutcome::Unreadable),
            Some(_) if self.reason.as_deref() == Some(ReasonCode::TooLarge.as_str()) => Some(RedriveOutcome::TooLarge),
            Some(_) => None,
        }
    }

    /// Its delivery's id, or its own where it holds none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.delivery.as_ref().map_or(self.key.as_str(), |delivery| delivery.id.as_str())
    }

    /// Its body, whatever it is.
    #[must_use]
    pub fn body(&self) -> Option<Bytes> {
        self.delivery.as_ref().map(|delivery| delivery.body.clone()).or_else(|| self.raw_body.clone())
    }
}
