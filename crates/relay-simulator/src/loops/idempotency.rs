//! The idempotency keys of a team.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::loops::error::LoopsError;

/// Time for which a used key is remembered (Loops, API reference: send an event, send a transactional email).
const IDEMPOTENCY_KEY_TTL: SignedDuration = SignedDuration::from_hours(24);
/// Maximum length of a key (the same pages).
const MAX_KEY_LEN: usize = 100;

/// The keys of events and of e-mails. Whether one key can be used for one of each is not stated; here it cannot.
///
/// Which responses use a key is not stated either; here only a 200 does, because then the contact may have been e-mailed.
#[derive(Debug, Default)]
pub(crate) struct UsedKeys(HashMap<String, Timestamp>);

impl UsedKeys {
    /// Rejects a key that was used within a day, whatever the body.
    pub(crate) fn check(&mut self, key: Option<&str>, now: Timestamp) -> Result<(), LoopsError> {
        self.0.retain(|_, used_at| now.duration_since(*used_at) < IDEMPOTENCY_KEY_TTL);
        match key {
            Some(key) if key.chars().count() > MAX_KEY_LEN => {
                Err(LoopsError::bad_request("Idempotency-Key is longer than 100 characters"))
            }
            Some(key) if self.0.contains_key(key) => {
                Err(LoopsError::conflict(format!("Request with idempotency key {key} has already been processed.")))
            }
            _ => Ok(()),
        }
    }

    /// Records the key of a call that was accepted.
    pub(crate) fn record(&mut self, key: Option<&str>, now: Timestamp) {
        self.0.extend(key.map(|key| (key.to_owned(), now)));
    }
}
