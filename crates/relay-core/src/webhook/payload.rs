//! The payload for a Clay table: Loops' bytes, with or without two columns more.

use bytes::Bytes;
use jiff::{Timestamp, Unit};
use strum::EnumString;

use crate::webhook::json_object::JsonObject;

/// Maximum size of a request to a Clay webhook (Clay, "Webhook integration guide": 100 KB; read as 100,000 bytes, the
/// smaller of its two meanings).
pub const MAX_CLAY_PAYLOAD_BYTES: usize = 100_000;

/// Format of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString)]
#[strum(serialize_all = "kebab-case")]
pub enum PayloadFormat {
    /// Loops' bytes, unchanged.
    #[default]
    Raw,
    /// Loops' bytes with `webhookId` and `receivedAt` added at the top level, if there are no such keys.
    WithId,
}

impl PayloadFormat {
    /// Renders the payload of an event. Every verified byte stays as it is. If the additions would make the payload larger
    /// than Clay accepts, they are left out.
    pub fn render(self, body: &Bytes, webhook_id: &str, received_at: Timestamp) -> Bytes {
        match self {
            Self::Raw => body.clone(),
            Self::WithId => render_with_id(body, webhook_id, received_at)
                .filter(|bytes| bytes.len() <= MAX_CLAY_PAYLOAD_BYTES)
                .unwrap_or_else(|| body.clone()),
        }
    }
}

fn render_with_id(body: &Bytes, webhook_id: &str, received_at: Timestamp) -> Option<Bytes> {
    let fields = JsonObject::parse(body)?;
    let received_at = received_at.round(Unit::Millisecond).unwrap_or(received_at).to_string();
    let mut added = String::new();
    for (name, value) in [("webhookId", webhook_id), ("receivedAt", &received_at)] {
        if !fields.contains_key(name) {
            added.push_str(&format!(r#","{name}":{}"#, serde_json::Value::from(value)));
        }
    }
    let end = body.iter().rposition(|byte| *byte == b'}')?;
    let (head, tail) = body.split_at_checked(end)?;
    Some([head, added.as_bytes(), tail].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(body: &'static str) -> String {
        let received_at = Timestamp::from_millisecond(1_734_425_918_500).unwrap();
        String::from_utf8(PayloadFormat::WithId.render(&Bytes::from(body), "msg_\"1", received_at).to_vec()).unwrap()
    }

    #[test]
    fn with_id_adds_two_fields_and_keeps_other_bytes() {
        assert_eq!(
            render("{ \"eventName\" : \"a}\", \"n\":123456789012345678901 }\n"),
            "{ \"eventName\" : \"a}\", \"n\":123456789012345678901 ,\"webhookId\":\"msg_\\\"1\",\"receivedAt\":\"2024-12-17T08:58:38.5Z\"}\n"
        );
    }

    #[test]
    fn with_id_does_not_overwrite_existing_keys() {
        assert_eq!(render(r#"{"webhookId":null,"receivedAt":1}"#), r#"{"webhookId":null,"receivedAt":1}"#);
    }

    #[test]
    fn with_id_is_skipped_if_payload_would_be_too_large() {
        let body = Bytes::from(format!(r#"{{"eventName":"{}"}}"#, "x".repeat(MAX_CLAY_PAYLOAD_BYTES - 20)));
        assert_eq!(PayloadFormat::WithId.render(&body, "msg_1", Timestamp::UNIX_EPOCH), body);
    }

    #[test]
    fn raw_format_keeps_body_unchanged() {
        let body = Bytes::from_static(b"{ }");
        assert_eq!(PayloadFormat::Raw.render(&body, "msg_1", Timestamp::UNIX_EPOCH), body);
    }
}
