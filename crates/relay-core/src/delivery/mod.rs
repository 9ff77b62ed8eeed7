//! A delivery: its id, its kind, and what two events under one key are compared by.
//!
//! See docs/adr/0015-one-hexagon.md.

mod attempt;
mod id;
mod kind;
mod reason;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::account_id::AccountId;
use crate::contact::ContactKey;
use crate::idempotency::IdempotencyKey;
use crate::row::json::lenient_json;
use crate::text::truncate_chars;
pub use attempt::{AttemptHistory, AttemptResult, FinishedAttempt};
pub use id::{BodyHash, DeliveryId};
pub use kind::{DeliveryKind, Direction};
pub use reason::{Reason, ReasonCode};

/// A body on its way to a destination.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The same for every duplicate.
    pub id: DeliveryId,
    /// The contact: deliveries of one contact are sent in the order of their arrival.
    pub contact: ContactKey,
    /// Time of its arrival.
    pub received_at: Timestamp,
    /// What is sent, and in which direction.
    pub kind: DeliveryKind,
    /// The bytes to send.
    pub body: Bytes,
}

/// Maximum length of what a destination says about a refusal.
const MAX_REDACTED_CHARS: usize = 200;
/// Fields of an event's body that do not change its contact (Loops API reference, "Send event").
const EVENT_ENVELOPE_FIELDS: [&str; 4] = ["email", "userId", "eventName", "eventProperties"];

impl Delivery {
    /// The account that it was taken for.
    pub fn account(&self) -> AccountId {
        self.contact.account()
    }

    /// The same delivery for this account: another delivery, because what one account has is no duplicate for another. In
    /// a store's first account a delivery has the id and the contact key that it has without accounts. The key under which
    /// Loops accepts an event once stays.
    #[must_use]
    pub fn in_account(self, account: &AccountId) -> Self {
        let id = match &self.kind {
            DeliveryKind::ClayRow { route, webhook_id } => DeliveryId::for_webhook_in(route, webhook_id, account),
            DeliveryKind::LoopsEvent { key } | DeliveryKind::LoopsEmail { key } => {
                DeliveryId::for_event_in(key, account)
            }
            // The random id of a contact's row is no other's.
            DeliveryKind::LoopsContact | DeliveryKind::LoopsCreate | DeliveryKind::LoopsDelete => self.id.clone(),
        };
        Self { id, contact: self.contact.in_account(account), ..self }
    }

    /// Whether it changes the contact in Loops, and so could overwrite something newer: a contact and a deletion do, an event
    /// does if it has contact properties or mailing lists. A row for Clay and an e-mail never do, nor does the creation of a
    /// contact, which Loops refuses if there is one.
    pub fn updates_contact(&self) -> bool {
        match self.kind {
            DeliveryKind::ClayRow { .. } | DeliveryKind::LoopsCreate | DeliveryKind::LoopsEmail { .. } => false,
            DeliveryKind::LoopsContact | DeliveryKind::LoopsDelete => true,
            // A body that cannot be read may have such fields.
            DeliveryKind::LoopsEvent { .. } => self
                .body_fields()
                .is_none_or(|fields| fields.keys().any(|name| !EVENT_ENVELOPE_FIELDS.contains(&name.as_str()))),
        }
    }

    /// Copy under the id of a conflict, to be stored beside the delivery that has the same id and another body.
    pub fn as_conflict(&self) -> Self {
        Self { id: self.id.with_body_hash(&BodyHash::compute(&self.body)), ..self.clone() }
    }

    /// Key that follows from an event's content, whatever key it has: it shows whether two events under one key are the
    /// same. Nothing if the body cannot be read.
    pub fn content_key(&self) -> Option<String> {
        self.derived_key().map(|derived| derived.as_str().to_owned())
    }

    /// Whether an event has other content than the one that is stored under its key, with this content key. A store that
    /// has none for an event has it from a relay that stored only those that differed from the event's own key.
    pub fn conflicts_with(&self, stored_content_key: Option<&str>) -> bool {
        let Some(key) = self.kind.idempotency_key() else { return false };
        self.content_key().is_some_and(|content_key| content_key != stored_content_key.unwrap_or(key.as_str()))
    }

    /// Copy of an event whose key was used for another one, to be stored beside the first: as a conflict, and under a key
    /// that nothing else has, so that an operator can redrive it and Loops processes it once. That is the derived key, or
    /// one that follows from it if the other event was sent under the derived key of this one.
    pub fn as_conflicting_event(&self) -> Self {
        let mut copy = self.as_conflict();
        if let (Some(derived), Some(key)) = (self.derived_key(), self.kind.idempotency_key()) {
            let key = if derived == *key { derived.for_conflict() } else { derived };
            copy.kind = self.kind.with_key(key);
        }
        copy
    }

    /// Returns a destination's sentence without the addresses in it and the contact's user id, in at most 200 characters.
    pub fn redact_identity(&self, message: &str) -> String {
        let fields = self.body_fields().unwrap_or_default();
        let user_id = fields.get("userId").and_then(Value::as_str).filter(|id| !id.is_empty());
        let message = user_id.map_or_else(|| message.to_owned(), |id| message.replace(id, "…"));
        let words = message.split_whitespace().map(|word| if word.contains('@') { "…" } else { word });
        truncate_chars(&words.collect::<Vec<&str>>().join(" "), MAX_REDACTED_CHARS)
    }

    fn derived_key(&self) -> Option<IdempotencyKey> {
        self.kind.idempotency_key()?;
        let body = self.body_fields()?;
        let text = |name| body.get(name).and_then(Value::as_str);
        let object = |name| body.get(name).and_then(Value::as_object);
        Some(if matches!(self.kind, DeliveryKind::LoopsEmail { .. }) {
            IdempotencyKey::derive_for_email(text("transactionalId")?, text("email")?, object("dataVariables"))
        } else {
            IdempotencyKey::derive(text("eventName")?, text("email"), text("userId"), object("eventProperties"))
        })
    }

    fn body_fields(&self) -> Option<Map<String, Value>> {
        // Not serde_json's own `Value`, which takes an object with a certain field for a number.
        match lenient_json::parse_lenient(std::str::from_utf8(&self.body).ok()?) {
            Ok(Value::Object(fields)) => Some(fields),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("id", &self.id).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}
