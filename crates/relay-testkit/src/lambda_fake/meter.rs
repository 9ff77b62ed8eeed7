//! Billed units of the functions' calls: SQS bills chunks of 64 KB, DynamoDB the size of the item.
//!
//! Item sizes as in AWS' page "DynamoDB item sizes and formats". Writes are billed per KB, consistent reads per 4 KB,
//! and other reads at half of that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Storage overhead of an item in DynamoDB, in bytes.
const ITEM_OVERHEAD: u64 = 100;

/// The calls of one kind, by one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BilledCalls {
    /// How many.
    pub calls: u64,
    /// In twice the units of the service, because a read that need not be consistent is half of one.
    pub half_units: u64,
}

/// Counts calls once it is started, since measuring the items doubles the calls.
#[derive(Debug, Default)]
pub struct Meter {
    billed: Mutex<Option<BTreeMap<(String, String), BilledCalls>>>,
    /// The size of each item that was written, as it was then.
    stored_sizes: Mutex<BTreeMap<String, u64>>,
}

/// What a call is about, if it is billed by the size of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemReadCall {
    /// The call that reads it.
    pub body: Vec<u8>,
}

impl Meter {
    /// Counts from now on, from nothing.
    pub fn start(&self) {
        self.stored_sizes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.billed.lock().unwrap_or_else(PoisonError::into_inner) = Some(BTreeMap::new());
    }

    /// Returns the units by function and action.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<(String, String), BilledCalls> {
        self.billed.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// The bytes of the items that were written and are still there, as they are paid for.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored_sizes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|bytes| bytes + ITEM_OVERHEAD)
            .sum()
    }

    /// How to read the item that a call is about, where this is counted and its size matters.
    #[must_use]
    pub fn item_read_for(&self, action: &str, body: &[u8]) -> Option<ItemReadCall> {
        let is_counting = self.billed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !is_counting || !["dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"].contains(&action) {
            return None;
        }
        let call: Value = serde_json::from_slice(body).ok()?;
        let read = json!({"TableName": call["TableName"], "Key": call["Key"], "ConsistentRead": true});
        Some(ItemReadCall { body: read.to_string().into_bytes() })
    }

    /// Counts a call. `before` and `after` are the item as [`ItemReadCall`] reads it.
    pub fn record_call(
        &self,
        function: &str,
        action: &str,
        body: &[u8],
        before: Option<&Value>,
        after: Option<&Value>,
    ) {
        let mut billed = self.billed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(billed) = billed.as_mut() else { return };
        let entry = billed.entry((function.to_owned(), action.to_owned())).or_default();
        entry.calls += 1;
        entry.half_units += half_units(action, body, before, after);
        let mut stored_sizes = self.stored_sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |item: &Value| item["pk"]["S"].as_str().unwrap_or_default().to_owned();
        match (before, after) {
            (_, Some(after)) => {
                stored_sizes.insert(key(after), u64::try_from(item_bytes(after)).unwrap_or(u64::MAX));
            }
            (Some(before), None) => {
                stored_sizes.remove(&key(before));
            }
            (None, None) => {}
        }
    }
}

fn half_units(action: &str, body: &[u8], before: Option<&Value>, after: Option<&Value>) -> u64 {
    let (before_bytes, after_bytes) = (before.map_or(0, item_bytes), after.map_or(0, item_bytes));
    match action {
        "dynamodb:GetItem" => {
            let call: Value = serde_json::from_slice(body).unwrap_or_default();
            let consistent = call["ConsistentRead"] == true;
            billing_units(before_bytes, 4096) * if consistent { 2 } else { 1 }
        }
        "dynamodb:UpdateItem" | "dynamodb:DeleteItem" => billing_units(before_bytes.max(after_bytes), 1024) * 2,
        "sqs:SendMessage" => {
            let call: Value = serde_json::from_slice(body).unwrap_or_default();
            billing_units(call["MessageBody"].as_str().map_or(0, str::len), 64 * 1024) * 2
        }
        _ => 2,
    }
}

fn billing_units(bytes: usize, unit_bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(unit_bytes).max(1)).unwrap_or(u64::MAX)
}

/// The size of an item: its names and its values.
fn item_bytes(item: &Value) -> usize {
    item.as_object().into_iter().flatten().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else { return 0 };
    match (kind.as_str(), value) {
        // Two digits to a byte, and one besides.
        ("N", Value::String(number)) => number.len().div_ceil(2) + 1,
        ("SS", Value::Array(all)) => 3 + all.iter().filter_map(Value::as_str).map(str::len).sum::<usize>(),
        (_, Value::String(text)) => text.len(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item_of_size(length: usize) -> Value {
        json!({"pk": {"S": "x".repeat(length - 2)}})
    }

    fn half_units_of(action: &str, call: &Value, before: Option<&Value>, after: Option<&Value>) -> u64 {
        half_units(action, call.to_string().as_bytes(), before, after)
    }

    #[test]
    fn write_bills_larger_of_old_and_new_item_per_kilobyte() {
        let update = |before: usize, after| {
            half_units_of("dynamodb:UpdateItem", &json!({}), Some(&item_of_size(before)), Some(&item_of_size(after)))
        };
        assert_eq!((update(1024, 10), update(10, 1025), update(4096, 4097)), (2, 4, 10));
        assert_eq!(
            half_units_of("dynamodb:DeleteItem", &json!({}), None, None),
            2,
            "nothing there is a unit all the same"
        );
    }

    #[test]
    fn read_bills_per_4_kb_and_half_if_eventually_consistent() {
        let (item, consistent) = (item_of_size(4097), json!({"ConsistentRead": true}));
        assert_eq!(half_units_of("dynamodb:GetItem", &consistent, Some(&item), None), 4);
        assert_eq!(half_units_of("dynamodb:GetItem", &json!({}), Some(&item), None), 2);
    }

    #[test]
    fn message_bills_per_64_kb() {
        let send = |length| half_units_of("sqs:SendMessage", &json!({"MessageBody": "x".repeat(length)}), None, None);
        assert_eq!((send(1), send(65_536), send(65_537)), (2, 2, 4));
    }

    #[test]
    fn item_size_is_sum_of_names_and_values() {
        let item = json!({"pk": {"S": "ab"}, "n": {"N": "1234"}, "set": {"SS": ["a", "bc"]}});
        assert_eq!(item_bytes(&item), 4 + (1 + 3) + (3 + 6));
    }

    #[test]
    fn stored_bytes_counts_last_write_of_undeleted_items() {
        let meter = Meter::default();
        meter.start();
        let item = |key: &str, text: &str| json!({"pk": {"S": key}, "a": {"S": text}});
        let (long, short, other) = (item("1", "long"), item("1", "s"), item("2", "s"));
        meter.record_call("f", "dynamodb:UpdateItem", b"{}", None, Some(&long));
        meter.record_call("f", "dynamodb:UpdateItem", b"{}", Some(&long), Some(&short));
        meter.record_call("f", "dynamodb:UpdateItem", b"{}", None, Some(&other));
        meter.record_call("f", "dynamodb:DeleteItem", b"{}", Some(&other), None);
        assert_eq!(meter.stored_bytes(), 3 + 2 + ITEM_OVERHEAD);
    }

    #[test]
    fn meter_counts_nothing_before_start() {
        let meter = Meter::default();
        meter.record_call("f", "sqs:SendMessage", b"{}", None, None);
        assert!(meter.totals().is_empty() && meter.item_read_for("dynamodb:GetItem", b"{}").is_none());
        meter.start();
        meter.record_call("f", "sqs:SendMessage", b"{}", None, None);
        assert_eq!(meter.totals().values().next(), Some(&BilledCalls { calls: 1, half_units: 2 }));
    }
}
