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
}

const ENVELOPE_VERSION: u32 = 1;

/// Encodes a delivery as a message.
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
    };
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        id: delivery.id.as_str().to_owned(),
        contact: delivery.contact.as_str().to_owned(),
        received_at: delivery.received_at.as_millisecond(),
        kind,
        body: String::from_utf8(delivery.body.to_vec()).map_err(|_| MessageError)?,
    };
    serde_json::to_string(&envelope).map_err(|_| MessageError)
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
    use super::*;

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
        ] {
            let delivery = delivery(kind);
            assert_eq!(decode(&encode(&delivery).unwrap()).unwrap(), delivery);
        }
    }

    #[test]
    fn invalid_message_is_not_decoded() {
        let newer_version =
            encode(&delivery(DeliveryKind::LoopsContact)).unwrap().replace("\"version\":1", "\"version\":2");
        for message in ["", "{}", "null", "hello", newer_version.as_str()] {
            assert_eq!(decode(message).unwrap_err(), MessageError, "{message}");
        }
    }
}
