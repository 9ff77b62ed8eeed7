//! A delivery: its id, its kind, and what two events under one key are compared by.
//!
//! See docs/adr/0015-one-hexagon.md.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use strum::{EnumString, IntoStaticStr};

use crate::account_id::AccountId;
pub use crate::attempt::{AttemptHistory, AttemptResult, FinishedAttempt};
use crate::contact::ContactKey;
use crate::idempotency::IdempotencyKey;
pub use crate::reason::{Reason, ReasonCode};
use crate::row::json::lenient_json;

/// Id of a delivery: the same for every attempt and for every duplicate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// Id of an event's delivery to one route. A repeated webhook gives the same id.
    pub fn for_webhook(route: &str, webhook_id: &str) -> Self {
        Self::derive("clay", &[route, webhook_id])
    }

    /// Id of an event's delivery to one route in an account.
    pub fn for_webhook_in(route: &str, webhook_id: &str, account: &AccountId) -> Self {
        let parts: Vec<&str> = [route, webhook_id].into_iter().chain(account.label()).collect();
        Self::derive("clay", &parts)
    }

    /// Id of an event for Loops. A repeat with the same key gives the same id.
    pub fn for_event(key: &IdempotencyKey) -> Self {
        Self::derive("event", &[key.as_str()])
    }

    /// Id of a contact's row, which is never a repeat.
    pub fn random(random: &str) -> Self {
        Self(format!("contact_{random}"))
    }

    /// Id of a request that became no delivery, for its response and the log.
    pub fn for_refused_request(new_id: &str) -> Self {
        Self(format!("refused_{new_id}"))
    }

    /// Id of a delivery that arrived under this id with another body: with 128 bits of the body's hash, so that nobody can
    /// make two bodies with one id.
    pub fn with_body_hash(&self, hash: &BodyHash) -> Self {
        Self(format!("{}_{:.32}", self.0, hash.0))
    }

    /// Id from a store.
    pub fn from_stored(id: String) -> Self {
        Self(id)
    }

    /// The id as text: letters, digits and `_` only, at most 80 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn derive(kind: &str, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
            hash.update([0]);
        }
        Self(format!("{kind}_{:.32}", hex::encode(hash.finalize())))
    }
}

impl std::fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a body. It shows whether two deliveries with one id have the same body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyHash(String);

impl BodyHash {
    /// Computes the hash of these bytes.
    pub fn compute(body: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(body)))
    }

    /// The hash as text: 64 hexadecimal characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Direction of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, EnumString, IntoStaticStr, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Direction {
    /// Webhooks to Clay tables.
    LoopsToClay,
    /// Rows to the Loops API.
    ClayToLoops,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::LoopsToClay, Self::ClayToLoops];

    /// The direction as stores and listings show it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Kind of a delivery, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
pub enum DeliveryKind {
    /// A Loops event for the webhooks of a route.
    #[strum(serialize = "row")]
    ClayRow {
        /// Name of the route.
        route: String,
        /// The event's `webhook-id`.
        webhook_id: String,
    },
    /// A contact for Loops to create or update.
    #[strum(serialize = "contact")]
    LoopsContact,
    /// An event for Loops to process once.
    #[strum(serialize = "event")]
    LoopsEvent {
        /// The key that every attempt carries.
        key: IdempotencyKey,
    },
}

impl DeliveryKind {
    /// The kind as stores, logs and listings show it.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// Direction of the kind.
    pub const fn direction(&self) -> Direction {
        match self {
            Self::ClayRow { .. } => Direction::LoopsToClay,
            Self::LoopsContact | Self::LoopsEvent { .. } => Direction::ClayToLoops,
        }
    }
}

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
            DeliveryKind::LoopsEvent { key } => {
                let parts: Vec<&str> = std::iter::once(key.as_str()).chain(account.label()).collect();
                DeliveryId::derive("event", &parts)
            }
            // The random id of a contact's row is no other's.
            DeliveryKind::LoopsContact => self.id.clone(),
        };
        Self { id, contact: self.contact.in_account(account), ..self }
    }

    /// Whether it changes the contact in Loops, and so could overwrite something newer: a contact does, an event does
    /// if it has contact properties or mailing lists, a row for Clay never does.
    pub fn updates_contact(&self) -> bool {
        match self.kind {
            DeliveryKind::ClayRow { .. } => false,
            DeliveryKind::LoopsContact => true,
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
        let DeliveryKind::LoopsEvent { key } = &self.kind else { return false };
        self.content_key().is_some_and(|content_key| content_key != stored_content_key.unwrap_or(key.as_str()))
    }

    /// Copy of an event whose key was used for another one, to be stored beside the first: as a conflict, and under a key
    /// that nothing else has, so that an operator can redrive it and Loops processes it once. That is the derived key, or
    /// one that follows from it if the other event was sent under the derived key of this one.
    pub fn as_conflicting_event(&self) -> Self {
        let mut copy = self.as_conflict();
        if let (Some(derived), DeliveryKind::LoopsEvent { key }) = (self.derived_key(), &self.kind) {
            let key = if derived == *key { derived.for_conflict() } else { derived };
            copy.kind = DeliveryKind::LoopsEvent { key };
        }
        copy
    }

    fn derived_key(&self) -> Option<IdempotencyKey> {
        if !matches!(self.kind, DeliveryKind::LoopsEvent { .. }) {
            return None;
        }
        let body = self.body_fields()?;
        let field = |name| body.get(name).and_then(Value::as_str);
        let properties = body.get("eventProperties").and_then(Value::as_object);
        Some(IdempotencyKey::derive(field("eventName")?, field("email"), field("userId"), properties))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_delivery_id_is_stable_per_route() {
        let id = DeliveryId::for_webhook("contacts", "msg_1");
        assert_eq!(id, DeliveryId::for_webhook("contacts", "msg_1"));
        assert_ne!(id, DeliveryId::for_webhook("contact", "smsg_1"));
        assert_ne!(id, DeliveryId::for_webhook("opens", "msg_1"));
    }

    #[test]
    fn delivery_id_is_short_and_alphanumeric() {
        let id = DeliveryId::for_webhook("contacts", &"✓".repeat(256)).with_body_hash(&BodyHash::compute(b"x"));
        assert!(id.as_str().len() <= 80 && id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{id}");
    }

    #[test]
    fn conflict_id_has_128_bits_of_the_body_hash() {
        let (id, hash) = (DeliveryId::for_webhook("contacts", "msg_1"), BodyHash::compute(b"x"));
        assert_eq!(id.with_body_hash(&hash).as_str(), format!("{id}_{}", &hash.as_str()[..32]));
    }

    #[test]
    fn delivery_for_another_account_is_another_delivery() {
        let webhook = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() };
        let event = DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") };
        for kind in [webhook, event, DeliveryKind::LoopsContact] {
            let id = match &kind {
                DeliveryKind::ClayRow { route, webhook_id } => DeliveryId::for_webhook(route, webhook_id),
                DeliveryKind::LoopsEvent { key } => DeliveryId::for_event(key),
                DeliveryKind::LoopsContact => DeliveryId::random("1"),
            };
            let delivery = Delivery {
                id,
                contact: ContactKey::from_email("ada@example.com"),
                received_at: Timestamp::UNIX_EPOCH,
                kind,
                body: Bytes::from_static(b"{}"),
            };
            assert_eq!(delivery.clone().in_account(&AccountId::default()), delivery);
            let simulated = delivery.clone().in_account(&AccountId::simulated());
            assert_eq!((simulated.account(), &simulated.kind), (AccountId::simulated(), &delivery.kind));
            assert_eq!(simulated.id == delivery.id, delivery.kind == DeliveryKind::LoopsContact);
            assert_eq!(simulated.in_account(&AccountId::default()), delivery);
        }
    }

    #[test]
    fn event_without_contact_properties_does_not_update_contact() {
        let delivery = |kind, body| Delivery {
            id: DeliveryId::random("1"),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::UNIX_EPOCH,
            kind,
            body: Bytes::from_static(body),
        };
        let event = || DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") };
        let without_properties: &[u8] = br#"{"email":"a@b.co","eventName":"signup","eventProperties":{"plan":"pro"}}"#;
        assert!(!delivery(event(), without_properties).updates_contact());
        assert!(delivery(event(), br#"{"email":"a@b.co","eventName":"signup","plan":"pro"}"#).updates_contact());
        assert!(
            delivery(event(), br#"{"email":"a@b.co","eventName":"signup","mailingLists":{"l":true}}"#)
                .updates_contact()
        );
        assert!(delivery(DeliveryKind::LoopsContact, without_properties).updates_contact());
        assert!(delivery(event(), b"?").updates_contact());
    }

    #[test]
    fn events_with_same_key_are_distinguished_by_content_key() {
        let event = |key, body: &'static str| Delivery {
            id: DeliveryId::for_event(&key),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::UNIX_EPOCH,
            kind: DeliveryKind::LoopsEvent { key },
            body: Bytes::from_static(body.as_bytes()),
        };
        let caller_key = || IdempotencyKey::from_stored("row-7".to_owned());
        let pro = event(caller_key(), r#"{"email":"a@b.co","eventName":"e","eventProperties":{"plan":"pro","n":1E5}}"#);
        let enriched = event(
            caller_key(),
            r#"{"eventProperties":{"n":100000,"plan":"pro"},"email":"A@b.co","eventName":"e","city":"x"}"#,
        );
        let free = event(caller_key(), r#"{"email":"a@b.co","eventName":"e","eventProperties":{"plan":"free"}}"#);
        assert!(pro.content_key().is_some_and(|hash| enriched.content_key() == Some(hash)));
        assert_ne!(pro.content_key(), free.content_key());
        let conflicting = free.as_conflicting_event();
        assert!(conflicting.id != pro.id && conflicting.body == free.body);
        assert!(!conflicting.conflicts_with(conflicting.content_key().as_deref()));
        assert_eq!(event(caller_key(), "?").content_key(), None);
        let contact = Delivery { kind: DeliveryKind::LoopsContact, ..pro };
        assert_eq!((contact.content_key(), contact.as_conflicting_event().kind), (None, DeliveryKind::LoopsContact));
    }

    #[test]
    fn event_conflicts_with_another_under_its_derived_key() {
        let event = |key: IdempotencyKey, plan: &str| Delivery {
            id: DeliveryId::for_event(&key),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::UNIX_EPOCH,
            kind: DeliveryKind::LoopsEvent { key },
            body: format!(r#"{{"email":"a@b.co","eventName":"e","eventProperties":{plan}}}"#).into(),
        };
        let key_of =
            |plan| IdempotencyKey::from_stored(event(IdempotencyKey::random("1"), plan).content_key().unwrap());
        let (own, other) = (r#"{"plan":"pro"}"#, r#"{"plan":"free"}"#);
        assert!(!event(key_of(own), own).conflicts_with(None), "as an older relay stored it");
        assert!(event(key_of(own), other).conflicts_with(None));
        assert!(event(key_of(own), own).conflicts_with(event(key_of(own), other).content_key().as_deref()));
        let conflicting = event(key_of(own), own).as_conflicting_event();
        assert_ne!(conflicting.kind, event(key_of(own), own).kind, "Loops knows that key by now");
        // The private name by which serde_json marks a number.
        let marked = |number| format!(r#"{{"$serde_json::private::Number":"{number}"}}"#);
        let (first, second) = (marked(1), marked(2));
        assert!(event(key_of(own), &second).conflicts_with(event(key_of(own), &first).content_key().as_deref()));
        let mut updating = event(key_of(own), own);
        updating.body = Bytes::from_static(br#"{"$serde_json::private::Number":"1"}"#);
        assert!(updating.updates_contact());
    }

    #[test]
    fn delivery_debug_output_hides_body() {
        let delivery = Delivery {
            id: DeliveryId::random("1"),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::UNIX_EPOCH,
            kind: DeliveryKind::LoopsContact,
            body: Bytes::from_static(b"{\"email\":\"ada@example.com\"}"),
        };
        assert!(!format!("{delivery:?}").contains("ada"));
    }
}
