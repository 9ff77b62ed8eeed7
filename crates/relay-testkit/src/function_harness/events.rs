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
        "loops-to-clay" => sign(file("loops-webhook.json")),
        "clay-to-loops-contact" | BARE | BARE_THREADED => file("contact-update.json"),
        "clay-to-loops-event" => file("event-send.json"),
        "clay-delivery" => {
            message(DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() })
        }
        "loops-delivery" => message(DeliveryKind::LoopsContact),
        other => panic!("no event is for {other}"),
    };
    event.to_string().into_bytes()
}

/// An event that the function answers by itself: it asks nobody, and the far end hears nothing of it.
pub(super) fn own_event(function: &str) -> Option<Vec<u8>> {
    let event = match function {
        // Verified and read, but not selected.
        "loops-to-clay" => {
            let mut event = file("loops-webhook.json");
            event["body"] = Value::from(text(&event["body"]).replace("contact.created", "contact.changed"));
            sign(event)
        }
        // Authenticated and cleaned, but its last field cannot be sent.
        "clay-to-loops-contact" => unsendable(file("contact-update.json")),
        "clay-to-loops-event" => unsendable(file("event-send.json")),
        BARE | BARE_THREADED => file("contact-update.json"),
        _ => return None,
    };
    Some(event.to_string().into_bytes())
}

/// Sees to it that the function answered so.
pub(super) fn check_own(function: &str, answer: &[u8]) {
    let given = String::from_utf8_lossy(answer);
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let well = match function {
        BARE | BARE_THREADED => answer["statusCode"] == 200,
        "loops-to-clay" => body(&answer)["status"] == "ignored",
        _ => answer["statusCode"] == 400 && body(&answer)["field"] == "unsendable",
    };
    assert!(well, "{function} answered {given}");
}

fn unsendable(mut event: Value) -> Value {
    let row = text(&event["body"]).trim_end().trim_end_matches('}').to_owned();
    event["body"] = Value::from(format!("{row},\"unsendable\":[]}}"));
    event
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Sees to it that the function did what it is for.
pub(super) fn check(function: &str, answer: &[u8]) {
    let given = String::from_utf8_lossy(answer);
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let well = match function {
        BARE | BARE_THREADED => answer["statusCode"] == 200,
        "clay-delivery" | "loops-delivery" => answer["batchItemFailures"] == json!([]),
        "loops-to-clay" => answer["statusCode"] == 200 && body(&answer)["status"] == "queued",
        // The far end's own answer: the row has not gone into the queue instead.
        _ => answer["statusCode"] == 200 && body(&answer)["id"] == "c1",
    };
    assert!(well, "{function} answered {given}");
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default()
}

fn file(name: &str) -> Value {
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
fn message(cargo: DeliveryKind) -> Value {
    let body = file("contact-update.json")["body"].as_str().unwrap_or_default().to_owned();
    let delivery = Delivery {
        id: DeliveryId::for_webhook("contacts", "msg_1"),
        contact: ContactKey::from_email("alex@example.com"),
        received_at: jiff::Timestamp::now(),
        kind: cargo,
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
