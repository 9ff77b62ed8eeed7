//! The identity of a contact, which orders its deliveries.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};

use crate::account_id::AccountId;
use crate::secret::{ExposeSecret as _, SecretString};

/// Key of a contact: deliveries with the same key are sent in the order of their arrival.
///
/// It is a hash of the lower-cased `email`, or of the `userId` where there is no `email`. So queues, tables and logs
/// hold no address. In any account but a store's first, the account's id stands before the hash: a contact there is another
/// contact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContactKey(String);

/// Stands between the account and the hash in a key.
const SEPARATOR: char = ':';

/// Key with which contacts are hashed for logs and listings. Each relay has its own, so that a known address cannot be
/// hashed and looked up in a log.
#[derive(Debug, Clone)]
pub struct ContactHashKey(SecretString);

impl ContactHashKey {
    /// Returns the key, or nothing if the text is blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(SecretString::from(text)))
    }
}

impl ContactKey {
    /// Key of the same person's contact in this account.
    pub fn in_account(&self, account: &AccountId) -> Self {
        let person = self.person();
        Self(account.label().map_or_else(|| person.to_owned(), |account| format!("{account}{SEPARATOR}{person}")))
    }

    /// The account that the contact is in.
    pub fn account(&self) -> AccountId {
        AccountId::from_stored(self.0.split_once(SEPARATOR).map_or_else(String::new, |(account, _)| account.to_owned()))
    }

    fn person(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or(self.0.as_str(), |(_, person)| person)
    }

    /// Name of the person in logs and listings, the same in every account: HMAC-SHA-256 under this key, 16 hexadecimal characters.
    pub fn log_hash(&self, key: &ContactHashKey) -> String {
        // HMAC takes a key of any length (RFC 2104 §2), so this does not fail.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(key.0.expose_secret().as_bytes()) else { return String::new() };
        format!("{:.16}", hex::encode(mac.chain_update(self.person()).finalize().into_bytes()))
    }

    /// Key of a contact with this address, in any case.
    pub fn from_email(email: &str) -> Self {
        Self::from_identity("email", &email.trim().to_lowercase())
    }

    /// Key of a contact that has only a user id.
    pub fn from_user_id(user_id: &str) -> Self {
        Self::from_identity("userId", user_id)
    }

    /// Key of the contact that somebody looks for by a text: by its address, or by its user id if it has no `@`.
    pub fn from_search(text: &str) -> Self {
        if text.contains('@') { Self::from_email(text) } else { Self::from_user_id(text) }
    }

    /// Key of a delivery without a contact: no other delivery is ordered before or after it.
    pub(crate) fn anonymous(delivery_id: &str) -> Self {
        Self::from_identity("nobody", delivery_id)
    }

    /// Key from a store.
    pub fn from_stored(key: String) -> Self {
        Self(key)
    }

    /// The key as text: 32 hexadecimal characters, after the account's id and a colon in any account but the first.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_identity(kind: &str, identity: &str) -> Self {
        let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(identity).finalize();
        Self(format!("{:.32}", hex::encode(digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_key_is_case_insensitive() {
        assert_eq!(ContactKey::from_email("Ada@Example.com"), ContactKey::from_email(" ada@example.com"));
    }

    #[test]
    fn log_hash_depends_on_hash_key_and_hides_secret() {
        let key = |text: &str| ContactHashKey::new(text).unwrap();
        let ada = ContactKey::from_email("ada@example.com");
        // printf %s "$(printf 'email\0ada@example.com' | sha256sum | cut -c1-32)" | openssl dgst -sha256 -hmac key
        assert_eq!(ada.log_hash(&key("key")), "a302241714797ac9");
        assert_eq!(ContactKey::from_email("ADA@example.com").log_hash(&key(" key\n")), ada.log_hash(&key("key")));
        assert_ne!(ada.log_hash(&key("another")), ada.log_hash(&key("key")));
        assert!(ContactHashKey::new(" ").is_none());
        assert!(!format!("{:?}", key("secret")).contains("secret"));
    }

    #[test]
    fn contact_of_another_account_has_another_key_and_the_same_log_hash() {
        let (ada, hash_key) = (ContactKey::from_email("ada@example.com"), ContactHashKey::new("key").unwrap());
        let simulated = ada.in_account(&AccountId::simulated());
        assert_ne!(simulated, ada);
        assert_eq!((ada.account(), simulated.account()), (AccountId::default(), AccountId::simulated()));
        assert_eq!(simulated.log_hash(&hash_key), ada.log_hash(&hash_key));
        assert_eq!(simulated.in_account(&AccountId::default()), ada);
        assert_eq!(ada.in_account(&AccountId::default()), ada);
    }

    #[test]
    fn user_id_key_is_case_sensitive() {
        assert_ne!(ContactKey::from_user_id("u1"), ContactKey::from_user_id("U1"));
    }

    #[test]
    fn email_and_user_id_with_same_text_have_different_keys() {
        assert_ne!(ContactKey::from_email("a@b.co"), ContactKey::from_user_id("a@b.co"));
    }
}
