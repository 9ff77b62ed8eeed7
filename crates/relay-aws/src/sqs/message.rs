//! A delivery as a message, and back.

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Cargo, Delivery, DeliveryId};
use relay_core::idempotency::IdempotencyKey;
use serde::{Deserialize, Serialize};

/// A message that is no delivery of this relay. Its content is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is not a delivery of this relay")]
pub struct EnvelopeFault;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    version: u32,
    id: String,
    contact: String,
    /// Unix milliseconds.
    received_at: i64,
    cargo: CargoEnvelope,
    /// The bytes to send; they are JSON, and so text.
    body: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
enum CargoEnvelope {
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

/// The only version so far.
const VERSION: u32 = 1;

/// The delivery as a message.
///
/// # Errors
/// When its body is not text, which no verified event and no cleaned row is.
pub fn seal(delivery: &Delivery) -> Result<String, EnvelopeFault> {
    let cargo = match &delivery.cargo {
        Cargo::ClayRow { route, webhook_id } => {
            CargoEnvelope::Row { route: route.clone(), webhook_id: webhook_id.clone() }
        }
        Cargo::LoopsContact => CargoEnvelope::Contact,
        Cargo::LoopsEvent { key } => CargoEnvelope::Event { key: key.as_str().to_owned() },
    };
    let envelope = Envelope {
        version: VERSION,
        id: delivery.id.as_str().to_owned(),
        contact: delivery.contact.as_str().to_owned(),
        received_at: delivery.received_at.as_millisecond(),
        cargo,
        body: String::from_utf8(delivery.body.to_vec()).map_err(|_| EnvelopeFault)?,
    };
    serde_json::to_string(&envelope).map_err(|_| EnvelopeFault)
}

/// The delivery in a message.
///
/// # Errors
/// When there is none that this relay knows.
pub fn open(message: &str) -> Result<Delivery, EnvelopeFault> {
    let envelope: Envelope = serde_json::from_str(message).map_err(|_| EnvelopeFault)?;
    if envelope.version != VERSION {
        return Err(EnvelopeFault);
    }
    let cargo = match envelope.cargo {
        CargoEnvelope::Row { route, webhook_id } => Cargo::ClayRow { route, webhook_id },
        CargoEnvelope::Contact => Cargo::LoopsContact,
        CargoEnvelope::Event { key } => Cargo::LoopsEvent { key: IdempotencyKey::stored(key) },
    };
    Ok(Delivery {
        id: DeliveryId::stored(envelope.id),
        contact: ContactKey::stored(envelope.contact),
        received_at: Timestamp::from_millisecond(envelope.received_at).map_err(|_| EnvelopeFault)?,
        cargo,
        body: Bytes::from(envelope.body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(cargo: Cargo) -> Delivery {
        Delivery {
            id: DeliveryId::of_webhook("contacts", "msg_1"),
            contact: ContactKey::of_email("ada@example.com"),
            received_at: Timestamp::from_millisecond(1_734_425_918_123).unwrap(),
            cargo,
            body: Bytes::from_static("{ \"n\":123456789012345678901,\t\"e\":\"Zoë \\ud83d\" }\n".as_bytes()),
        }
    }

    #[test]
    fn every_delivery_comes_back_byte_for_byte() {
        for cargo in [
            Cargo::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_\"1".to_owned() },
            Cargo::LoopsContact,
            Cargo::LoopsEvent { key: IdempotencyKey::unique("1") },
        ] {
            let delivery = delivery(cargo);
            assert_eq!(open(&seal(&delivery).unwrap()).unwrap(), delivery);
        }
    }

    #[test]
    fn what_is_no_delivery_is_not_opened() {
        let newer = seal(&delivery(Cargo::LoopsContact)).unwrap().replace("\"version\":1", "\"version\":2");
        for message in ["", "{}", "null", "hello", newer.as_str()] {
            assert_eq!(open(message).unwrap_err(), EnvelopeFault, "{message}");
        }
    }
}
