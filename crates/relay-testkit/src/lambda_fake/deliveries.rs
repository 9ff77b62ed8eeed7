//! What a stack knows of its deliveries, told as `relay-local deliveries --json` tells it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::Message;
use serde_json::{Value, json};

use super::Cloud;

/// Queues and dead letters, and which way they lead.
const WAYS: [(&str, &str, &str); 2] =
    [("ClayQueue", "ClayDeadLetters", "loops-to-clay"), ("LoopsQueue", "LoopsDeadLetters", "clay-to-loops")];

/// Every delivery in the order of arrival: those on record, dead letters that never were, and, without an id, what is in
/// a queue and not on record yet. A contact that went directly is on no record.
pub async fn list(cloud: &Cloud) -> Vec<Value> {
    let mut all: Vec<Value> = items(cloud).await.iter().filter_map(on_record).collect();
    for (queue, dead_letters, direction) in WAYS {
        for message in cloud.messages(dead_letters).await {
            let letter = dead_letter(&message, direction);
            if !all.iter().any(|known| known["id"] == letter["id"] && known["state"] == "dead") {
                all.push(letter);
            }
        }
        let waiting = all.iter().filter(|known| known["state"] == "waiting" && known["direction"] == direction);
        let known = u64::try_from(waiting.count()).unwrap_or(u64::MAX);
        for _ in known..cloud.length(queue).await {
            all.push(json!({"direction": direction, "state": "waiting", "receivedAt": i64::MAX}));
        }
    }
    all.sort_by_key(|delivery| delivery["receivedAt"].as_i64());
    all
}

async fn items(cloud: &Cloud) -> Vec<HashMap<String, AttributeValue>> {
    let scan = cloud.stack().account().dynamodb().scan().table_name(cloud.stack().table()).consistent_read(true);
    scan.into_paginator().items().send().collect::<Result<_, _>>().await.unwrap_or_else(|error| panic!("{error:?}"))
}

fn on_record(item: &HashMap<String, AttributeValue>) -> Option<Value> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str);
    let number =
        |name: &str| item.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse::<i64>().ok());
    let id = text("pk")?.strip_prefix("delivery#")?;
    let state = match text("standing")? {
        "queued" => "waiting",
        "done" => "delivered",
        "dead" => "dead",
        // Its caller waits.
        _ => return None,
    };
    let direction = if text("cargo") == Some("row") { "loops-to-clay" } else { "clay-to-loops" };
    Some(json!({
        "id": id, "direction": direction, "state": state, "attempts": number("attempts").unwrap_or(0),
        "reason": text("reason"), "status": number("last_status").filter(|status| *status > 0),
        "receivedAt": number("received_at"),
    }))
}

fn dead_letter(message: &Message, direction: &str) -> Value {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let delivery = message.body.as_deref().and_then(|body| relay_aws::sqs::message::decode(body).ok());
    json!({
        "id": delivery.as_ref().map(|delivery| delivery.id.as_str()), "direction": direction, "state": "dead",
        "attempts": attribute("attempts").and_then(|attempts| attempts.parse::<u32>().ok()), "reason": attribute("reason"),
        "status": attribute("status").and_then(|status| status.parse::<u16>().ok()),
        "receivedAt": delivery.map(|delivery| delivery.received_at.as_millisecond()),
    })
}
