//! The message format of a delivery.

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use relay_core::idempotency::IdempotencyKey;
use serde::{Deserialize, Serialize};

/// A message that carries no delivery of this relay. Its content is not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is not a delivery of this relay")]
pub struct MessageError;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    version: u32,
    id: String,
    contact: String,
    /// Unix milliseconds.
    received_at: i64,
    kind: MessageKind,
    /// Bytes to send. They are JSON, hence text.
    body: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", deny_unknown_fields)]
enum MessageKind {
    #[serde(rename_all = "camelCase")]
    Row {
        route: String,
        webhook_id: String,
    },
    Contact,
    Event {
        key: String,
    },
    Create,
    Delete,
    Email {
        key: String,
    },
}

const ENVELOPE_VERSION: u32 = 1;

/// Encodes a delivery as a message, in the characters that SQS takes.
///
/// # Errors
/// When the body is not UTF-8. That of a verified event or a cleaned row always is.
pub fn encode(delivery: &Delivery) -> Result<String, MessageError> {
    let kind = match &delivery.kind {
        DeliveryKind::ClayRow { route, webhook_id } => {
            MessageKind::Row { route: route.clone(), webhook_id: webhook_id.clone() }
        }
        DeliveryKind::LoopsContact => MessageKind::Contact,
        DeliveryKind::LoopsEvent { key } => MessageKind::Event { key: key.as_str().to_owned() },
        DeliveryKind::LoopsCreate => MessageKind::Create,
        DeliveryKind::LoopsDelete => MessageKind::Delete,
        DeliveryKind::LoopsEmail { key } => MessageKind::Email { key: key.as_str().to_owned() },
    };
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        id: delivery.id.as_str().to_owned(),
        contact: delivery.contact.as_str().to_owned(),
        received_at: delivery.received_at.as_millisecond(),
        kind,
        body: String::from_utf8(delivery.body.to_vec()).map_err(|_| MessageError)?,
    };
    serde_json::to_string(&envelope).map(escape_noncharacters).map_err(|_| MessageError)
}

/// Encodes a delivery as bytes for a store that counts them: the message without its body in the first line, then the body as
/// it is. In a message alone, each quotation mark of a body takes two bytes.
///
/// # Errors
/// Those of [`encode`].
pub fn encode_bytes(delivery: &Delivery) -> Result<Vec<u8>, MessageError> {
    let message = encode(&Delivery { body: Bytes::new(), ..delivery.clone() })?;
    Ok([message.as_bytes(), b"\n", &delivery.body].concat())
}

/// Decodes what [`encode_bytes`] returns.
///
/// # Errors
/// When it is no delivery of this version.
pub fn decode_bytes(bytes: &[u8]) -> Result<Delivery, MessageError> {
    let line_end = bytes.iter().position(|byte| *byte == b'\n').ok_or(MessageError)?;
    let (message, body) = bytes.split_at_checked(line_end).ok_or(MessageError)?;
    let delivery = decode(std::str::from_utf8(message).map_err(|_| MessageError)?)?;
    Ok(Delivery { body: Bytes::copy_from_slice(body.get(1..).unwrap_or_default()), ..delivery })
}

/// Escapes what SQS refuses in a message and JSON may hold as it is: U+FFFE and U+FFFF (SQS API reference, `SendMessage`).
/// Control characters are escaped in any JSON. A text of the envelope is the only thing that can have either character.
fn escape_noncharacters(json: String) -> String {
    if json.contains(['\u{fffe}', '\u{ffff}']) {
        return json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    }
    json
}

/// Decodes the delivery in a message.
///
/// # Errors
/// When the message carries no delivery of this version.
pub fn decode(message: &str) -> Result<Delivery, MessageError> {
    let envelope: Envelope = serde_json::from_str(message).map_err(|_| MessageError)?;
    if envelope.version != ENVELOPE_VERSION {
        return Err(MessageError);
    }
    let kind = match envelope.kind {
        MessageKind::Row { route, webhook_id } => DeliveryKind::ClayRow { route, webhook_id },
        MessageKind::Contact => DeliveryKind::LoopsContact,
        MessageKind::Event { key } => DeliveryKind::LoopsEvent { key: IdempotencyKey::from_stored(key) },
        MessageKind::Create => DeliveryKind::LoopsCreate,
        MessageKind::Delete => DeliveryKind::LoopsDelete,
        MessageKind::Email { key } => DeliveryKind::LoopsEmail { key: IdempotencyKey::from_stored(key) },
    };
    Ok(Delivery {
        id: DeliveryId::from_stored(envelope.id),
        contact: ContactKey::from_stored(envelope.contact),
        received_at: Timestamp::from_millisecond(envelope.received_at).map_err(|_| MessageError)?,
        kind,
        body: Bytes::from(envelope.body),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay::routes::MAX_REQUEST_BYTES;

    use super::*;

    /// The template's `MaximumMessageSize`.
    const MAX_MESSAGE_BYTES: usize = 1_048_576;

    fn delivery(kind: DeliveryKind) -> Delivery {
        Delivery {
            id: DeliveryId::for_webhook("contacts", "msg_1"),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::from_millisecond(1_734_425_918_123).unwrap(),
            kind,
            body: Bytes::from_static("{ \"n\":123456789012345678901,\t\"e\":\"Zoë \\ud83d\" }\n".as_bytes()),
        }
    }

    #[test]
    fn every_delivery_kind_round_trips_byte_for_byte() {
        for kind in [
            DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_\"1".to_owned() },
            DeliveryKind::LoopsContact,
            DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") },
            DeliveryKind::LoopsCreate,
            DeliveryKind::LoopsDelete,
            DeliveryKind::LoopsEmail { key: IdempotencyKey::random("1") },
        ] {
            let delivery = delivery(kind);
            assert_eq!(decode(&encode(&delivery).unwrap()).unwrap(), delivery);
        }
    }

    #[test]
    fn largest_body_fits_into_message_and_item() {
        for character in ["\"", "\\", "\n", "\u{ffff}"] {
            let body = Bytes::from(character.repeat(MAX_REQUEST_BYTES / character.len()));
            let delivery = Delivery { body, ..delivery(DeliveryKind::LoopsContact) };
            assert!(encode(&delivery).unwrap().len() < MAX_MESSAGE_BYTES, "{character:?}");
            assert!(encode_bytes(&delivery).unwrap().len() < MAX_REQUEST_BYTES + 1000, "{character:?}");
        }
    }

    #[test]
    fn invalid_message_is_not_decoded() {
        let newer_version =
            encode(&delivery(DeliveryKind::LoopsContact)).unwrap().replace("\"version\":1", "\"version\":2");
        for message in ["", "{}", "null", "hello", newer_version.as_str()] {
            assert_eq!(decode(message).unwrap_err(), MessageError, "{message}");
            assert_eq!(decode_bytes(message.as_bytes()).unwrap_err(), MessageError, "{message}");
        }
    }

    /// Whether SQS takes a character (SQS API reference, `SendMessage`).
    fn is_allowed_by_sqs(character: char) -> bool {
        matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
    }

    fn any_text() -> impl Strategy<Value = String> {
        let special = prop::sample::select(vec!['\u{fffe}', '\u{ffff}', '\u{fffd}', '\0', '\u{7f}', '"', '\\', 'u']);
        prop::collection::vec(prop_oneof![any::<char>(), special], 0..40).prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_encoded_in_characters_that_sqs_takes(body in any_text(), webhook_id in any_text()) {
            let kind = DeliveryKind::ClayRow { route: "\u{fffe}".to_owned(), webhook_id };
            let delivery = Delivery { body: Bytes::from(body), ..delivery(kind) };
            let message = encode(&delivery).unwrap();
            prop_assert!(message.chars().all(is_allowed_by_sqs), "{message:?}");
            prop_assert_eq!(&decode(&message).unwrap(), &delivery);
            prop_assert_eq!(decode_bytes(&encode_bytes(&delivery).unwrap()).unwrap(), delivery);
        }
    }
}
