//! The dead-letter queue, as an operator reads, redrives and empties it.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::delivery::{Delivery, DeliveryKind, Direction, ReasonCode};
use relay_core::delivery_state::DeliveryState;
use strum::{IntoStaticStr, VariantArray};

use crate::ports::admin::DeliveryRecord;

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Key of this dead letter. A later dead letter of the same delivery has another one.
    pub key: String,
    /// Direction whose queue it died in.
    pub direction: Direction,
    /// The delivery, or the raw message body if it is no delivery of this relay.
    pub content: Result<Delivery, Bytes>,
    /// Reason code. `None` if SQS moved the message after too many receives.
    pub reason: Option<String>,
    /// HTTP status of the destination, if the reason is a response.
    pub status: Option<u16>,
    /// Number of attempts.
    pub attempts: Option<u32>,
    /// When it was dead-lettered.
    pub dead_lettered_at: Option<Timestamp>,
}

/// What an operator allows a redrive to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedriveOptions {
    /// Overwrite something newer of the same contact.
    pub even_if_older: bool,
    /// Send it to another account than the one it was taken for: the one that is served now.
    pub redirect: bool,
    /// Send an event that Loops may have already, and could not tell from a new one.
    pub even_if_sent: bool,
}

/// Result of redriving one dead letter, or what the result would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RedriveOutcome {
    /// It goes back to the queue of its direction.
    #[strum(serialize = "sent")]
    Redriven,
    /// It was redriven before, and only its deletion was missing.
    #[strum(serialize = "sent_before")]
    AlreadyRedriven,
    /// Its delivery is delivered: only the dead letter is deleted.
    #[strum(serialize = "delivered_before")]
    AlreadyDelivered,
    /// A newer delivery of its contact was delivered or waits, and would be overwritten.
    #[strum(serialize = "outdated")]
    Superseded,
    /// It was taken for another account than the one that is served now.
    OtherDestination,
    /// Loops may have its event, and has forgotten the key by now: its e-mail might be sent a second time.
    OutcomeUnknown,
    /// The contact lock is held by a row that is being sent.
    Busy,
    /// Another body was delivered under its id.
    Conflict,
    /// It holds no delivery of this relay.
    Unreadable,
    /// It exceeds the size that Clay accepts.
    TooLarge,
    /// It is no longer a dead letter.
    #[strum(serialize = "gone")]
    NotFound,
}

impl RedriveOutcome {
    /// Returns the outcome as `--json` shows it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the dead letter stays in the dead-letter queue.
    pub const fn stays_in_dlq(self) -> bool {
        matches!(
            self,
            Self::Superseded
                | Self::OtherDestination
                | Self::OutcomeUnknown
                | Self::Busy
                | Self::Conflict
                | Self::Unreadable
                | Self::TooLarge
        )
    }
}

/// The dead letters of one relay. [`next_page`](Self::next_page) leases what it returns, [`release`](Self::release) ends
/// the leases.
pub trait DeadLetterQueue {
    /// Error of a queue that cannot be read, counted or changed.
    type Error: std::error::Error + 'static;

    /// Returns more dead letters. None if all that can be read were returned.
    fn next_page(&mut self) -> impl Future<Output = Result<Vec<DeadLetter>, Self::Error>>;

    /// Returns what [`redrive`](Self::redrive) would do. Changes nothing.
    fn plan_redrive(
        &self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> impl Future<Output = Result<RedriveOutcome, Self::Error>>;

    /// Redrives a dead letter. After an error it may be redriven in part; it can be repeated, and nothing is delivered
    /// twice.
    fn redrive(
        &mut self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> impl Future<Output = Result<RedriveOutcome, Self::Error>>;

    /// Deletes a dead letter. Returns false if it is no longer one.
    fn delete(&mut self, dead_letter: &DeadLetter) -> impl Future<Output = Result<bool, Self::Error>>;

    /// Ends the leases of the dead letters that were read and are still there.
    fn release(&mut self) -> impl Future<Output = ()>;

    /// Returns the number of dead letters, those that cannot be read now included.
    fn count(&self) -> impl Future<Output = Result<u64, Self::Error>>;
}

impl DeadLetter {
    /// Returns its delivery, if it holds one.
    pub fn delivery(&self) -> Option<&Delivery> {
        self.content.as_ref().ok()
    }

    /// Returns the id of its delivery, or its own key if it holds none.
    pub fn id(&self) -> &str {
        self.delivery().map_or(self.key.as_str(), |delivery| delivery.id.as_str())
    }

    /// Returns its body.
    pub fn body(&self) -> &Bytes {
        self.content.as_ref().map_or_else(|raw| raw, |delivery| &delivery.body)
    }

    /// Returns why it can never be redriven, whatever the ledger has of its delivery.
    pub fn not_redrivable(&self) -> Option<RedriveOutcome> {
        match &self.content {
            Err(_) => Some(RedriveOutcome::Unreadable),
            Ok(_) if self.reason.as_deref() == Some(ReasonCode::TooLarge.as_str()) => Some(RedriveOutcome::TooLarge),
            Ok(_) => None,
        }
    }

    /// Returns the record of its delivery, as far as the dead letter has it. The kind is empty if it holds no delivery.
    pub fn to_record(&self) -> DeliveryRecord {
        let delivery = self.delivery();
        let (route, webhook_id) = match delivery.map(|delivery| &delivery.kind) {
            Some(DeliveryKind::ClayRow { route, webhook_id }) => (Some(route.clone()), Some(webhook_id.clone())),
            Some(_) | None => (None, None),
        };
        DeliveryRecord {
            id: self.id().to_owned(),
            direction: self.direction,
            state: DeliveryState::Dead,
            attempts: self.attempts.unwrap_or_default(),
            reason: self.reason.clone(),
            status: self.status,
            kind: delivery.map(|delivery| delivery.kind.as_str().to_owned()).unwrap_or_default(),
            destination: delivery.and_then(|delivery| delivery.account().label().map(str::to_owned)),
            route: route.filter(|route| !route.is_empty()),
            webhook_id,
            contact_hash: None,
            received_at: delivery.map(|delivery| delivery.received_at),
            first_attempt_at: None,
            last_attempt_at: None,
            next_attempt_at: None,
            held_since: None,
            settled_at: self.dead_lettered_at,
            died_at: self.dead_lettered_at,
            dropped_at: None,
            failures: Vec::new(),
        }
    }
}
