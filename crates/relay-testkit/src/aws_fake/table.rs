//! The ledger's table: items under one key.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ServiceResponse, condition, update};
use crate::aws_fake::tokens::{Item, item_size, number_value};

/// Maximum size of an item (DynamoDB Developer Guide, "Quotas": 400 KB).
const MAX_ITEM_BYTES: usize = 400 * 1024;

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    items: BTreeMap<String, Item>,
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

    /// Deletes the expired items.
    pub fn delete_expired(&mut self, now: jiff::Timestamp) {
        let is_expired =
            |item: &Item| item.get("expires_at").and_then(number_value).is_some_and(|at| at <= now.as_second());
        let expired_keys: Vec<String> =
            self.items.iter().filter(|(_, item)| is_expired(item)).map(|(key, _)| key.clone()).collect();
        expired_keys.iter().for_each(|key| drop(self.items.remove(key)));
    }

    /// Deletes the items whose keys have this prefix.
    pub fn delete_with_prefix(&mut self, prefix: &str) {
        self.items.retain(|key, _| !key.starts_with(prefix));
    }

    pub(crate) fn handle(&mut self, operation: &str, request: &Value) -> ServiceResponse {
        match operation {
            "GetItem" => {
                let item = self.items.get(key(request));
                ServiceResponse::ok(item.map_or_else(|| json!({}), |item| json!({"Item": item})))
            }
            "UpdateItem" => self.update(request),
            "DeleteItem" => {
                if let Some(failure) = self.condition_failure(request) {
                    return failure;
                }
                self.items.remove(key(request));
                ServiceResponse::ok(json!({}))
            }
            _ => panic!("unexpected DynamoDB operation {operation}"),
        }
    }

    fn update(&mut self, request: &Value) -> ServiceResponse {
        let key = key(request);
        if let Some(failure) = self.condition_failure(request) {
            return failure;
        }
        let before =
            self.items.get(key).cloned().unwrap_or_else(|| Item::from_iter([("pk".to_owned(), json!({"S": key}))]));
        let expression = request["UpdateExpression"].as_str().unwrap_or_default();
        let item = update::apply_update(expression, request, &before);
        if item_size(&item) > MAX_ITEM_BYTES {
            let message = "Item size to update has exceeded the maximum allowed size";
            return ServiceResponse::error("com.amazon.coral.validate#ValidationException", message);
        }
        let response = ServiceResponse::ok(json!({"Attributes": item}));
        self.items.insert(key.to_owned(), item);
        response
    }

    /// Returns the error response of a change whose condition does not hold.
    fn condition_failure(&self, request: &Value) -> Option<ServiceResponse> {
        let current = self.items.get(key(request));
        let condition = request["ConditionExpression"].as_str()?;
        if condition::holds(condition, request, current.unwrap_or(&Item::new())) {
            return None;
        }
        let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        let mut response = ServiceResponse::error(code, "The conditional request failed");
        if let Some(item) = current.filter(|_| request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD") {
            response.body["Item"] = json!(item);
        }
        Some(response)
    }
}

fn key(request: &Value) -> &str {
    request["Key"]["pk"]["S"].as_str().unwrap_or_else(|| panic!("a call without a key"))
}
