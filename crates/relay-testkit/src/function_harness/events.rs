//! The event that each function is for: those of the folder `events`, and their like from a queue.

use std::path::Path;

use axum::body::Bytes;
use relay_aws::sqs::message;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use serde_json::{Value, json};

use super::{BARE, BARE_THREADED};
use crate::webhook;

/// An event for this function.
pub(super) fn event(function: &str) -> Vec<u8> {
    let event = match function {
        "loops-to-clay" => sign(load_event("loops-webhook.json")),
        "clay-to-loops-contact" | BARE | BARE_THREADED => load_event("contact-update.json"),
        "clay-to-loops-event" => load_event("event-send.json"),
        "clay-to-loops-api" => load_event("contact-create.json"),
        "clay-delivery" => {
            batch_event(DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() })
        }
        "loops-delivery" => batch_event(DeliveryKind::LoopsContact),
        other => panic!("no event is for {other}"),
    };
    event.to_string().into_bytes()
}

/// Returns an event that the function answers without any call.
pub(super) fn self_contained_event(function: &str) -> Option<Vec<u8>> {
    let event = match function {
        // Verified and read, but not selected.
        "loops-to-clay" => {
            let mut event = load_event("loops-webhook.json");
            event["body"] = Value::from(text(&event["body"]).replace("contact.created", "contact.changed"));
            sign(event)
        }
        // Authenticated and cleaned, but its last field cannot be sent.
        "clay-to-loops-contact" => with_unsendable_field(load_event("contact-update.json")),
        "clay-to-loops-event" => with_unsendable_field(load_event("event-send.json")),
        "clay-to-loops-api" => with_unsendable_field(load_event("contact-create.json")),
        BARE | BARE_THREADED => load_event("contact-update.json"),
        _ => return None,
    };
    Some(event.to_string().into_bytes())
}

/// Checks the response to the self-contained event.
pub(super) fn check_self_contained(function: &str, response: &[u8]) {
    let response_text = String::from_utf8_lossy(response);
    let response: Value = serde_json::from_slice(response).unwrap_or_default();
    let is_expected = match function {
        BARE | BARE_THREADED => response["statusCode"] == 200,
        "loops-to-clay" => body(&response)["status"] == "ignored",
        _ => response["statusCode"] == 400 && body(&response)["field"] == "unsendable",
    };
    assert!(is_expected, "{function} answered {response_text}");
}

fn with_unsendable_field(mut event: Value) -> Value {
    let row = text(&event["body"]).trim_end().trim_end_matches('}').to_owned();
    event["body"] = Value::from(format!("{row},\"unsendable\":[]}}"));
    event
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Checks the response to the function's main event.
pub(super) fn check_response(function: &str, response: &[u8]) {
    let response_text = String::from_utf8_lossy(response);
    let response: Value = serde_json::from_slice(response).unwrap_or_default();
    let is_expected = match function {
        BARE | BARE_THREADED => response["statusCode"] == 200,
        "clay-delivery" | "loops-delivery" => response["batchItemFailures"] == json!([]),
        "loops-to-clay" => response["statusCode"] == 200 && body(&response)["status"] == "queued",
        // The destination's own response: the row was not queued instead.
        _ => response["statusCode"] == 200 && body(&response)["id"] == "c1",
    };
    assert!(is_expected, "{function} answered {response_text}");
}

fn body(response: &Value) -> Value {
    serde_json::from_str(response["body"].as_str().unwrap_or_default()).unwrap_or_default()
}

fn load_event(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/api-gateway").join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same webhook, signed now.
fn sign(mut event: Value) -> Value {
    let body = event["body"].as_str().unwrap_or_default().to_owned();
    let id = event["headers"]["webhook-id"].as_str().unwrap_or_default().to_owned();
    for (name, value) in webhook::headers(&id, webhook::now(), body.as_bytes()) {
        event["headers"][name] = Value::from(value);
    }
    event
}

/// A batch of one delivery.
fn batch_event(kind: DeliveryKind) -> Value {
    let body = load_event("contact-update.json")["body"].as_str().unwrap_or_default().to_owned();
    let delivery = Delivery {
        id: DeliveryId::for_webhook("contacts", "msg_1"),
        contact: ContactKey::from_email("alex@example.com"),
        received_at: jiff::Timestamp::now(),
        kind,
        body: Bytes::from(body),
    };
    let message = message::encode(&delivery).unwrap_or_else(|error| panic!("{error}"));
    json!({"Records": [{
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d", "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": message, "messageAttributes": {}, "md5OfBody": "098f6bcd4621d373cade4e832627b4f6",
        "attributes": {
            "ApproximateReceiveCount": "1", "SentTimestamp": "1734425918000", "SequenceNumber": "18849496460467696128",
            "MessageGroupId": delivery.contact.as_str(), "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "MessageDeduplicationId": "1", "ApproximateFirstReceiveTimestamp": "1734425918100",
        },
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:relay.fifo",
        "awsRegion": "eu-west-1",
    }]})
}
