//! Changes of the deliveries of a stack, read from the functions' logs: a poll of the ledger would read all of it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use relay_aws::functions::FUNCTION_NAMES;
use relay_core::delivery_state::DeliveryState;
use serde_json::Value;

use crate::aws::error::Error;
use crate::delivery_change::DeliveryChange;
use crate::target::StackTarget;

/// Longest time until CloudWatch finds a logged line.
const INGESTION_DELAY: SignedDuration = SignedDuration::from_secs(20);

/// A poll of the logs that goes on where the last one ended.
#[derive(Debug)]
pub(crate) struct LogTail<'a> {
    target: &'a StackTarget,
    since: Timestamp,
    /// Lines that may be found again.
    seen_events: BTreeSet<(i64, String)>,
}

impl<'a> LogTail<'a> {
    /// Follows the logs from a time on.
    pub(crate) const fn new(target: &'a StackTarget, since: Timestamp) -> Self {
        Self { target, since, seen_events: BTreeSet::new() }
    }

    /// Returns the changes since the last poll.
    pub(crate) async fn poll(&mut self) -> Result<Vec<DeliveryChange>, Error> {
        let now = Timestamp::now();
        let start_ms = self.since.max(now.checked_sub(INGESTION_DELAY).unwrap_or(now)).as_millisecond();
        let mut changes = Vec::new();
        for function in FUNCTION_NAMES {
            let group = format!("/aws/lambda/{}", self.target.stack.function_name(function));
            let call = self.target.session.call("logs:FilterLogEvents", group.clone());
            let request = self.target.session.logs().filter_log_events().log_group_name(group).start_time(start_ms);
            // Only the relay's events have an outcome.
            let mut pages = request.filter_pattern("outcome").into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| call.to_error(&error))?;
                for event in page.events.unwrap_or_default() {
                    let timestamp_ms = event.timestamp.unwrap_or_default();
                    if self.seen_events.insert((timestamp_ms, event.event_id.unwrap_or_default())) {
                        changes.extend(parse_change(timestamp_ms, event.message.as_deref().unwrap_or_default()));
                    }
                }
            }
        }
        self.seen_events.retain(|(timestamp_ms, _)| *timestamp_ms >= start_ms);
        changes.sort_by_key(|change| change.at);
        Ok(changes)
    }
}

/// Returns the change that a line describes, if it is one of a delivery.
fn parse_change(timestamp_ms: i64, line: &str) -> Option<DeliveryChange> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let string_field = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let u64_field = |name: &str| fields.get(name).and_then(Value::as_u64);
    let state = match fields.get("outcome")?.as_str()? {
        "queued" | "retried" | "held" | "waits" => DeliveryState::Waiting,
        "delivered" | "duplicate" => DeliveryState::Delivered,
        "dead" | "rejected" => DeliveryState::Dead,
        // The request became no delivery.
        _ => return None,
    };
    Some(DeliveryChange {
        at: Timestamp::from_millisecond(timestamp_ms).ok()?,
        direction: string_field("direction").unwrap_or_default(),
        id: string_field("delivery.id")?,
        state,
        reason: string_field("reason").or_else(|| string_field("code")),
        status: u64_field("status").and_then(|status| u16::try_from(status).ok()),
        attempts: u64_field("attempts").and_then(|attempts| u32::try_from(attempts).ok()),
        webhook_id: string_field("webhook.id"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_log_line_becomes_a_change() {
        let line = r#"{"level":"ERROR","message":"dead letter","direction":"loops-to-clay","outcome":"dead",
            "delivery.id":"clay_1","webhook.id":"msg_1","reason":"clay_rejected","status":400,"attempts":3,"ms":12}"#;
        let change = parse_change(1_734_425_918_123, line).unwrap();
        assert_eq!((change.id.as_str(), change.state), ("clay_1", DeliveryState::Dead));
        assert_eq!(
            (change.reason.as_deref(), change.status, change.attempts),
            (Some("clay_rejected"), Some(400), Some(3))
        );
    }

    #[test]
    fn log_line_without_delivery_is_ignored() {
        assert!(parse_change(0, r#"{"outcome":"refused","delivery.id":"refused_1"}"#).is_none());
        assert!(parse_change(0, "START RequestId outcome").is_none());
    }
}
