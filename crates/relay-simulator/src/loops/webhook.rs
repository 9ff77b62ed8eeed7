//! The webhooks that Loops sends about its contacts.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The body of the webhook that says that a contact was created at that time: `contact` as Loops shows it, with its custom
/// properties and mailing lists (Loops, webhooks: contact.created).
pub fn contact_created_body(contact: &Value, created_at: Timestamp) -> String {
    let identity = ["id", "email", "userId"].map(|key| (key.to_owned(), contact.get(key).cloned().unwrap_or_default()));
    let body = json!({
        "eventName": "contact.created",
        "eventTime": created_at.as_second(),
        "webhookSchemaVersion": "1.0.0",
        "contactIdentity": Value::Object(identity.into_iter().collect()),
        "contact": contact,
    });
    body.to_string()
}
