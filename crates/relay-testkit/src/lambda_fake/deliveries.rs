//! A stack's deliveries, in the format of `relay-local deliveries --json`.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::Message;
use serde_json::{Value, json};

use super::FakeStack;

/// Queue, dead-letter queue and direction.
const DIRECTIONS: [(&str, &str, &str); 2] =
    [("ClayQueue", "ClayDeadLetters", "loops-to-clay"), ("LoopsQueue", "LoopsDeadLetters", "clay-to-loops")];

/// Returns every delivery in order of arrival: those in the ledger, dead letters that are not, and, without an id,
/// queued messages that are not in the ledger yet. A contact update on the fast path has no ledger item.
pub async fn list(fake_stack: &FakeStack) -> Vec<Value> {
    let mut all: Vec<Value> = scan_items(fake_stack).await.iter().filter_map(delivery_from_item).collect();
    for (queue, dead_letters, direction) in DIRECTIONS {
        for message in fake_stack.messages(dead_letters).await {
            let dead_letter = dead_letter_to_json(&message, direction);
            if !all.iter().any(|known| known["id"] == dead_letter["id"] && known["state"] == "dead") {
                all.push(dead_letter);
            }
        }
        let waiting = all.iter().filter(|known| known["state"] == "waiting" && known["direction"] == direction);
        let known = u64::try_from(waiting.count()).unwrap_or(u64::MAX);
        for _ in known..fake_stack.queue_length(queue).await {
            all.push(json!({"direction": direction, "state": "waiting", "receivedAt": i64::MAX}));
        }
    }
    all.sort_by_key(|delivery| delivery["receivedAt"].as_i64());
    all
}

async fn scan_items(fake_stack: &FakeStack) -> Vec<HashMap<String, AttributeValue>> {
    let scan =
        fake_stack.stack().clients().dynamodb().scan().table_name(fake_stack.stack().table()).consistent_read(true);
    scan.into_paginator().items().send().collect::<Result<_, _>>().await.unwrap_or_else(|error| panic!("{error:?}"))
}

fn delivery_from_item(item: &HashMap<String, AttributeValue>) -> Option<Value> {
    let string_attr = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str);
    let number_attr =
        |name: &str| item.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse::<i64>().ok());
    let id = string_attr("pk")?.strip_prefix("delivery#")?;
    let state = match string_attr("state")? {
        "queued" => "waiting",
        "delivered" => "delivered",
        "dead" => "dead",
        // Its caller waits.
        _ => return None,
    };
    let direction = if string_attr("kind") == Some("row") { "loops-to-clay" } else { "clay-to-loops" };
    Some(json!({
        "id": id, "direction": direction, "state": state, "attempts": number_attr("attempts").unwrap_or(0),
        "reason": string_attr("reason"), "status": number_attr("last_status").filter(|status| *status > 0),
        "receivedAt": number_attr("received_at"),
    }))
}

fn dead_letter_to_json(message: &Message, direction: &str) -> Value {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let delivery = message.body.as_deref().and_then(|body| relay_aws::sqs::message::decode(body).ok());
    json!({
        "id": delivery.as_ref().map(|delivery| delivery.id.as_str()), "direction": direction, "state": "dead",
        "attempts": attribute("attempts").and_then(|attempts| attempts.parse::<u32>().ok()), "reason": attribute("reason"),
        "status": attribute("status").and_then(|status| status.parse::<u16>().ok()),
        "receivedAt": delivery.map(|delivery| delivery.received_at.as_millisecond()),
    })
}
