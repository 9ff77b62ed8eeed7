//! What an operator pastes into Loops and Clay.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// What the operator pastes into Loops and Clay.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointUrls {
    /// URL for Loops, *Settings → Webhooks*.
    pub loops_webhook_url: String,
    /// Events that are relayed.
    pub events: Vec<String>,
    /// URL of Clay's contact column.
    pub clay_contact_url: String,
    /// URL of Clay's event column.
    pub clay_event_url: String,
}

/// Identifies a secret without showing it: the first eight hexadecimal digits of its SHA-256.
pub fn fingerprint(secret: &str) -> String {
    let mut hash = hex::encode(Sha256::digest(secret.trim()));
    hash.truncate(8);
    hash
}
