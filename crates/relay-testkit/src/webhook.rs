//! Webhooks as Loops sends them.

use std::time::{SystemTime, UNIX_EPOCH};

use relay_core::webhook::signature::SigningSecret;

use crate::http::{Response, send};

/// The signing secret of the tests.
pub const SIGNING_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The time in Unix seconds.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// A webhook's three headers.
#[must_use]
pub fn headers(id: &str, timestamp: i64, body: &[u8]) -> Vec<(&'static str, String)> {
    let timestamp = timestamp.to_string();
    let secret =
        SigningSecret::parse(SIGNING_SECRET).unwrap_or_else(|_| unreachable!("the secret of the tests is base64"));
    let signature = secret.sign(id, &timestamp, body);
    vec![("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
}

/// Posts a signed webhook.
pub async fn post(base: &str, id: &str, body: &[u8]) -> Response {
    post_at(base, id, now(), body).await
}

/// Posts a webhook that was signed at a time.
pub async fn post_at(base: &str, id: &str, timestamp: i64, body: &[u8]) -> Response {
    let headers = headers(id, timestamp, body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    send("POST", &format!("{base}/webhooks/loops"), &headers, body).await
}

/// A `contact.created` of that address.
#[must_use]
pub fn contact_created(email: &str) -> Vec<u8> {
    let event = serde_json::json!({
        "eventName": "contact.created", "eventTime": 1_734_425_918, "webhookSchemaVersion": "1.0.0",
        "contactIdentity": {"id": "c1", "email": email, "userId": null},
        "contact": {"id": "c1", "email": email, "source": "API", "subscribed": true, "mailingLists": {}},
    });
    event.to_string().into_bytes()
}
