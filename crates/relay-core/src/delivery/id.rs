//! The id of a delivery.

use sha2::{Digest, Sha256};

use crate::account_id::AccountId;
use crate::idempotency::IdempotencyKey;

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

    /// Id of an event or an e-mail for Loops. A repeat with the same key gives the same id; so does an e-mail under the key of an
    /// event, because it is not stated whether Loops would take it for a repeat.
    pub fn for_event(key: &IdempotencyKey) -> Self {
        Self::derive("event", &[key.as_str()])
    }

    /// Id of an event or an e-mail in an account.
    pub(super) fn for_event_in(key: &IdempotencyKey, account: &AccountId) -> Self {
        let parts: Vec<&str> = std::iter::once(key.as_str()).chain(account.label()).collect();
        Self::derive("event", &parts)
    }

    /// Id of a contact's row, which is never a repeat.
    pub fn random(random: &str) -> Self {
        Self(format!("contact_{random}"))
    }

    /// Id of a request that became no delivery, for its response and the log.
    pub fn for_refused_request(new_id: &str) -> Self {
        Self(format!("refused_{new_id}"))
    }

    /// Id of a request that only reads, for its response and the log.
    pub fn for_read(new_id: &str) -> Self {
        Self(format!("read_{new_id}"))
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
