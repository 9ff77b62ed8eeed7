//! The ledger's table: one key, and the index of what is parked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Answer, condition, update};
use crate::aws_fake::tokens::{Item, number};

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    items: BTreeMap<String, Item>,
    /// The keys of the items with this place.
    parked: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Forgets what is to be forgotten by then.
    pub fn forget_old(&mut self, now: jiff::Timestamp) {
        let expired = |item: &Item| item.get("expires_at").and_then(number).is_some_and(|at| at <= now.as_second());
        let old: Vec<String> =
            self.items.iter().filter(|(_, item)| expired(item)).map(|(key, _)| key.clone()).collect();
        old.iter().for_each(|key| self.put(key, None));
    }

    pub(crate) fn answer(&mut self, operation: &str, request: &Value) -> Answer {
        match operation {
            "GetItem" => {
                let item = self.items.get(key(request));
                Answer::ok(item.map_or_else(|| json!({}), |item| json!({"Item": item})))
            }
            "UpdateItem" => self.update(request),
            "DeleteItem" => {
                if let Some(refusal) = self.refusal(request) {
                    return refusal;
                }
                self.put(key(request), None);
                Answer::ok(json!({}))
            }
            "Query" => self.query(request),
            _ => panic!("nobody asks DynamoDB for {operation}"),
        }
    }

    fn update(&mut self, request: &Value) -> Answer {
        let key = key(request);
        if let Some(refusal) = self.refusal(request) {
            return refusal;
        }
        let before =
            self.items.get(key).cloned().unwrap_or_else(|| Item::from_iter([("pk".to_owned(), json!({"S": key}))]));
        let expression = request["UpdateExpression"].as_str().unwrap_or_default();
        let item = update::updated(expression, request, &before);
        let answer = Answer::ok(json!({"Attributes": item}));
        self.put(key, Some(item));
        answer
    }

    /// What a change is answered whose condition does not hold.
    fn refusal(&self, request: &Value) -> Option<Answer> {
        let there = self.items.get(key(request));
        let condition = request["ConditionExpression"].as_str()?;
        if condition::holds(condition, request, there.unwrap_or(&Item::new())) {
            return None;
        }
        let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        let mut refusal = Answer::refusal(code, "The conditional request failed");
        if let Some(item) = there.filter(|_| request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD") {
            refusal.body["Item"] = json!(item);
        }
        Some(refusal)
    }

    fn query(&self, request: &Value) -> Answer {
        assert_eq!(request["KeyConditionExpression"], "parked = :parked", "the only index there is");
        let place = request["ExpressionAttributeValues"][":parked"]["S"].as_str().unwrap_or_default();
        let limit = request["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let keys = self.parked.get(place).into_iter().flatten().take(limit);
        // What the index has of an item.
        let items: Vec<Value> = keys
            .filter_map(|key| self.items.get(key))
            .map(|item| {
                let of = |name: &&str| item.get(*name).map(|value| ((*name).to_owned(), value.clone()));
                Value::Object(["pk", "parked", "receipt"].iter().filter_map(of).collect())
            })
            .collect();
        Answer::ok(json!({"Count": items.len(), "ScannedCount": items.len(), "Items": items}))
    }

    fn put(&mut self, key: &str, item: Option<Item>) {
        let place = |item: &Item| item.get("parked").and_then(|place| place["S"].as_str()).map(str::to_owned);
        if let Some(place) = self.items.get(key).and_then(place)
            && let Some(keys) = self.parked.get_mut(&place)
        {
            keys.remove(key);
        }
        match item {
            Some(item) => {
                if let Some(place) = place(&item) {
                    self.parked.entry(place).or_default().insert(key.to_owned());
                }
                self.items.insert(key.to_owned(), item);
            }
            None => {
                self.items.remove(key);
            }
        }
    }
}

fn key(request: &Value) -> &str {
    request["Key"]["pk"]["S"].as_str().unwrap_or_else(|| panic!("a call without a key"))
}
