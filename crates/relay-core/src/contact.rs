//! Which contact an update is about: what keeps updates in order and events apart.

use sha2::{Digest, Sha256};

/// A contact's key: updates with the same key are delivered in the order they arrived.
///
/// It is the lower-cased `email`, or `userId` where there is no `email`, hashed: it groups messages in queues, stands
/// in tables and logs, and tells nobody's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContactKey(String);

impl ContactKey {
    /// The key of a contact known by its address (any case).
    #[must_use]
    pub fn of_email(email: &str) -> Self {
        Self::hashed("email", &email.trim().to_lowercase())
    }

    /// The key of a contact known by its user id alone.
    #[must_use]
    pub fn of_user_id(user_id: &str) -> Self {
        Self::hashed("userId", user_id)
    }

    /// The key of something that is about no contact: it waits for nothing and nothing waits for it.
    #[must_use]
    pub fn of_nobody(delivery: &str) -> Self {
        Self::hashed("nobody", delivery)
    }

    /// A key that was made before, as a store kept it.
    #[must_use]
    pub fn stored(key: String) -> Self {
        Self(key)
    }

    /// The key as text: 32 hexadecimal characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn hashed(kind: &str, identity: &str) -> Self {
        let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(identity).finalize();
        let mut key = hex::encode(digest);
        key.truncate(32);
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_contact_in_any_case() {
        assert_eq!(ContactKey::of_email("Ada@Example.com"), ContactKey::of_email(" ada@example.com"));
    }

    #[test]
    fn a_user_id_keeps_its_case() {
        assert_ne!(ContactKey::of_user_id("u1"), ContactKey::of_user_id("U1"));
    }

    #[test]
    fn an_address_and_a_user_id_of_the_same_text_are_different_contacts() {
        assert_ne!(ContactKey::of_email("a@b.co"), ContactKey::of_user_id("a@b.co"));
    }
}
