//! What happens to the deliveries of a stack, as the functions' logs tell it. The ledger would have to be read whole each time.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use relay_sqlite::store::DeliveryState;
use serde_json::Value;

use crate::aws::stack::FUNCTIONS;
use crate::error::Error;
use crate::operations::record::DeliveryChange;
use crate::target::StackTarget;

/// How long a line may take from its function until it can be found.
const INGESTION_DELAY: SignedDuration = SignedDuration::from_secs(20);

/// A look at the logs that goes on where the last one ended.
#[derive(Debug)]
pub struct LogTail<'a> {
    target: &'a StackTarget,
    since: Timestamp,
    /// The lines that were told already and may be found again.
    told: BTreeSet<(i64, String)>,
}

impl<'a> LogTail<'a> {
    /// A look at what is logged from then on.
    #[must_use]
    pub const fn new(target: &'a StackTarget, since: Timestamp) -> Self {
        Self { target, since, told: BTreeSet::new() }
    }

    /// What has happened since the last look.
    ///
    /// # Errors
    /// When the logs cannot be read.
    pub async fn poll(&mut self) -> Result<Vec<DeliveryChange>, Error> {
        let now = Timestamp::now();
        let from = self.since.max(now.checked_sub(INGESTION_DELAY).unwrap_or(now)).as_millisecond();
        let mut changes = Vec::new();
        for function in FUNCTIONS {
            let group = format!("/aws/lambda/{}", self.target.stack.function(function));
            let call = self.target.session.call("logs:FilterLogEvents", group.clone());
            let lines = self.target.session.logs().filter_log_events().log_group_name(group).start_time(from);
            // What has an outcome; SQS and Lambda say other things in between.
            let mut pages = lines.filter_pattern("outcome").into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| call.to_error(&error))?;
                for line in page.events.unwrap_or_default() {
                    let at = line.timestamp.unwrap_or_default();
                    if self.told.insert((at, line.event_id.unwrap_or_default())) {
                        changes.extend(change(at, line.message.as_deref().unwrap_or_default()));
                    }
                }
            }
        }
        self.told.retain(|(at, _)| *at >= from);
        changes.sort_by_key(|change| change.at);
        Ok(changes)
    }
}

/// What a line tells of a delivery; nothing where it tells of something else.
fn change(at: i64, line: &str) -> Option<DeliveryChange> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| line.get(name).and_then(Value::as_u64);
    let state = match line.get("outcome")?.as_str()? {
        "queued" | "retried" | "held" | "waits" => DeliveryState::Waiting,
        "delivered" | "duplicate" => DeliveryState::Delivered,
        "dead" | "rejected" => DeliveryState::Dead,
        // A request that became no delivery.
        _ => return None,
    };
    Some(DeliveryChange {
        at: Timestamp::from_millisecond(at).ok()?,
        direction: text("direction").unwrap_or_default(),
        id: text("delivery.id")?,
        state,
        reason: text("reason").or_else(|| text("code")),
        status: number("status").and_then(|status| u16::try_from(status).ok()),
        attempts: number("attempts").and_then(|attempts| u32::try_from(attempts).ok()),
        webhook_id: text("webhook.id"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_worker_is_read() {
        let line = r#"{"level":"ERROR","message":"dead letter","direction":"loops-to-clay","outcome":"dead",
            "delivery.id":"clay_1","webhook.id":"msg_1","reason":"clay_rejected","status":400,"attempts":3,"ms":12}"#;
        let read = change(1_734_425_918_123, line).unwrap();
        assert_eq!((read.id.as_str(), read.state), ("clay_1", DeliveryState::Dead));
        assert_eq!((read.reason.as_deref(), read.status, read.attempts), (Some("clay_rejected"), Some(400), Some(3)));
    }

    #[test]
    fn what_became_no_delivery_is_not_told() {
        assert!(change(0, r#"{"outcome":"refused","delivery.id":"refused_1"}"#).is_none());
        assert!(change(0, "START RequestId outcome").is_none());
    }
}
