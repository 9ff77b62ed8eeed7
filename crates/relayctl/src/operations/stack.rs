//! The deliveries of a stack: its ledger in DynamoDB, its queues in SQS.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, QueueAttributeName};
use jiff::{SignedDuration, Timestamp};
use relay_aws::ledger::deliveries::delivery_key;
use relay_aws::ledger::failure_counts::all_counts;
use relay_aws::ledger::items::PARTITION_KEY;
use relay_aws::ledger::table::{Item, TTL, number_attr, string_attr, time_attr};
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;

use super::{Admin, DIRECTIONS, DeliveryQuery};
use crate::aws::ledger_item::item;
use crate::aws::pause;
use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::operations::record::{DeliveryRecord, FailureRecord, PauseResult, QueueRecord};
use crate::progress;
use crate::target::StackTarget;

/// The most messages of one call to SQS.
pub(crate) const SQS_BATCH: usize = 10;

/// A stack's ledger and queues.
#[derive(Debug)]
pub struct StackAdmin<'a> {
    pub(crate) target: &'a StackTarget,
    quiet: bool,
}

impl<'a> StackAdmin<'a> {
    /// Those of this stack; `quiet` shows no progress.
    #[must_use]
    pub const fn new(target: &'a StackTarget, quiet: bool) -> Self {
        Self { target, quiet }
    }

    /// An item of the ledger, by its key.
    async fn item(&self, key: String) -> Result<Option<Item>, Error> {
        Ok(item(self.target, key).await?)
    }

    /// The items of one webhook: one for each route that it may have gone.
    async fn by_webhook_id(&self, webhook_id: &str, routes: &[String]) -> Result<Vec<DeliveryRecord>, Error> {
        let route_names = if routes.is_empty() { self.route_names().await? } else { routes.to_vec() };
        let mut records = Vec::new();
        for route in route_names {
            let id = DeliveryId::for_webhook(&route, webhook_id);
            if let Some(record) = self.item(delivery_key(&id)).await?.as_ref().and_then(record_from_item) {
                let webhook_id = Some(webhook_id.to_owned());
                records.push(DeliveryRecord { route: Some(route), webhook_id, ..record });
            }
        }
        Ok(records)
    }

    /// The names of the routes in the secret; its other fields are not kept.
    async fn route_names(&self) -> Result<Vec<String>, Error> {
        let name = self.target.stack.output(StackOutput::LoopsToClaySecretName)?;
        let call = self.target.session.call("secretsmanager:GetSecretValue", name);
        let response = self.target.session.secrets_manager().get_secret_value().secret_id(name).send().await;
        let response = response.map_err(|error| call.to_error(&error))?;
        let document: serde_json::Value =
            serde_json::from_str(response.secret_string().unwrap_or_default()).unwrap_or_default();
        let routes = document.get("clay_routes").and_then(|routes| routes.as_array()).into_iter().flatten();
        Ok(routes.filter_map(|route| route.get("name")?.as_str().map(str::to_owned)).collect())
    }

    async fn scan(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, Error> {
        let table = self.target.stack.output(StackOutput::LedgerTableName)?;
        let call = self.target.session.call("dynamodb:Scan", table);
        let mut scan = self
            .target
            .session
            .dynamodb()
            .scan()
            .table_name(table)
            .expression_attribute_values(":deliveries", AttributeValue::S("delivery#".to_owned()));
        let mut filter = "begins_with(pk, :deliveries)".to_owned();
        if let Some(hash) = &query.contact_hash {
            filter.push_str(" AND contact_hash = :contact");
            scan = scan.expression_attribute_values(":contact", AttributeValue::S(hash.clone()));
        }
        if let Some(direction) = query.direction {
            let row = AttributeValue::S("row".to_owned());
            scan = scan.expression_attribute_values(":row", row);
            filter.push_str(match direction {
                Direction::LoopsToClay => " AND kind = :row",
                Direction::ClayToLoops => " AND kind <> :row",
            });
        }
        let spinner = progress::spinner(self.quiet, "reading the ledger");
        let mut items = scan.filter_expression(filter).into_paginator().items().send();
        let mut records = Vec::new();
        while let Some(item) = items.next().await {
            records.extend(record_from_item(&item.map_err(|error| call.to_error(&error))?));
            spinner.set_message(format!("reading the ledger: {} found", records.len()));
        }
        spinner.finish_and_clear();
        Ok(records)
    }
}

impl Admin for StackAdmin<'_> {
    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, Error> {
        let mut records = match &query.webhook_id {
            Some(webhook_id) => self.by_webhook_id(webhook_id, &query.routes).await?,
            None => self.scan(query).await?,
        };
        records.retain(|record| {
            // What was dropped is done with, and in no state that can be asked for.
            query.state.is_none_or(|state| record.state == state && record.dropped_at.is_none())
                && query.direction.is_none_or(|direction| record.direction == direction)
                && (query.contact_hash.is_none() || record.contact_hash == query.contact_hash)
        });
        records.sort_by_key(|record| record.received_at);
        let max_records = query.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Ok(records.split_off(records.len().saturating_sub(max_records)))
    }

    async fn delivery(&self, id: &str) -> Result<Option<DeliveryRecord>, Error> {
        let Some(item) = self.item(delivery_key(&DeliveryId::from_stored(id.to_owned()))).await? else {
            return Ok(None);
        };
        Ok(record_from_item(&item).map(|record| DeliveryRecord { failures: failure_records(&item), ..record }))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, Error> {
        let mut queues = Vec::new();
        for direction in DIRECTIONS {
            let (queue, dead_letter_queue) = queue_urls(direction);
            let (paused, paused_since) = pause::pause_state(self.target, direction).await?;
            queues.push(QueueRecord {
                direction,
                waiting: approximate_len(self.target, queue).await?,
                dead_letters: approximate_len(self.target, dead_letter_queue).await?,
                paused,
                paused_since,
            });
        }
        Ok(queues)
    }

    async fn set_paused(&self, direction: Direction, paused: bool) -> Result<PauseResult, Error> {
        Ok(pause::set_paused(self.target, direction, paused).await?)
    }

    fn log_group_prefix(&self) -> Option<&str> {
        Some(&self.target.stack.name)
    }

    /// The last part of the stack's id, as the template has it.
    fn contact_hash_key(&self) -> Result<Option<ContactHashKey>, Error> {
        Ok(self.target.stack.id.split('/').nth(2).and_then(ContactHashKey::new))
    }
}

/// The outputs with a direction's queue and its dead letters.
#[must_use]
pub const fn queue_urls(direction: Direction) -> (StackOutput, StackOutput) {
    match direction {
        Direction::LoopsToClay => (StackOutput::ClayQueueUrl, StackOutput::ClayDeadLetterUrl),
        Direction::ClayToLoops => (StackOutput::LoopsQueueUrl, StackOutput::LoopsDeadLetterUrl),
    }
}

/// How many messages a queue holds, hidden ones included.
///
/// # Errors
/// When SQS cannot be asked.
pub async fn approximate_len(target: &StackTarget, queue: StackOutput) -> Result<u64, Error> {
    let url = target.stack.output(queue)?;
    let call = target.session.call("sqs:GetQueueAttributes", queue_name(url));
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let request = target.session.sqs().get_queue_attributes().queue_url(url);
    let response =
        request.set_attribute_names(Some(names.to_vec())).send().await.map_err(|error| call.to_error(&error))?;
    let attributes = response.attributes.unwrap_or_default();
    Ok(names.iter().filter_map(|name| attributes.get(name)?.parse::<u64>().ok()).sum())
}

/// Shows the messages of so many receipts as one call takes, which are hidden in this queue; gives how many still were.
///
/// # Errors
/// When SQS refuses the call.
pub(crate) async fn make_visible(
    target: &StackTarget,
    url: &str,
    receipts: &[impl AsRef<str>],
) -> Result<usize, Error> {
    let call = target.session.call("sqs:ChangeMessageVisibility", queue_name(url));
    let entries = receipts.iter().enumerate().filter_map(|(index, receipt)| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
        entry.receipt_handle(receipt.as_ref()).visibility_timeout(0).build().ok()
    });
    let request = target.session.sqs().change_message_visibility_batch().queue_url(url);
    let response = request.set_entries(Some(entries.collect())).send().await.map_err(|error| call.to_error(&error))?;
    // One that has come back by itself has another receipt by now.
    Ok(response.successful().len())
}

/// The name of a queue, by its URL.
#[must_use]
pub fn queue_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// What the ledger's item of a delivery says; nothing where its caller still waits.
fn record_from_item(item: &Item) -> Option<DeliveryRecord> {
    let id = string_attr(item, PARTITION_KEY)?.strip_prefix("delivery#")?.to_owned();
    let kind = string_attr(item, "kind").unwrap_or_default().to_owned();
    let direction = if kind == "row" { Direction::LoopsToClay } else { Direction::ClayToLoops };
    let changed_at = number_attr(item, "expires_at").and_then(|at| Timestamp::from_second(at).ok()).map(|at| at - TTL);
    let last_attempt_at = time_attr(item, "last_attempt_at");
    // What an operator has done since the last attempt is in the item beside where the delivery stands, which is left as it
    // is: a worker that takes it begins anew because it says dead.
    let since_last_attempt = |name| time_attr(item, name).filter(|at| Some(*at) > last_attempt_at);
    let state = match string_attr(item, "state")? {
        "queued" => DeliveryState::Waiting,
        "delivered" => DeliveryState::Delivered,
        "dead"
            if since_last_attempt("retried_at")
                .is_some_and(|at| Some(at + SignedDuration::from_secs(1)) > changed_at) =>
        {
            DeliveryState::Waiting
        }
        "dead" => DeliveryState::Dead,
        _ => return None,
    };
    let is_dead = state == DeliveryState::Dead;
    Some(DeliveryRecord {
        id,
        direction,
        state,
        attempts: u32::try_from(number_attr(item, "attempts").unwrap_or_default()).unwrap_or(u32::MAX),
        reason: string_attr(item, "reason").map(str::to_owned),
        status: number_attr(item, "last_status")
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| *status > 0),
        kind,
        route: None,
        webhook_id: string_attr(item, "webhook_id").map(str::to_owned),
        contact_hash: string_attr(item, "contact_hash").map(str::to_owned),
        received_at: time_attr(item, "received_at"),
        first_attempt_at: time_attr(item, "first_attempt_at"),
        last_attempt_at,
        next_attempt_at: time_attr(item, "not_before"),
        settled_at: if state == DeliveryState::Waiting { None } else { last_attempt_at.or(changed_at) },
        dropped_at: since_last_attempt("dropped_at").filter(|_| is_dead),
        failures: Vec::new(),
    })
}

/// How often which reason occurred.
fn failure_records(item: &Item) -> Vec<FailureRecord> {
    let counts = all_counts(item).map(|(reason, status, count)| FailureRecord {
        reason: reason.to_owned(),
        status,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    });
    let mut failures: Vec<FailureRecord> = counts.collect();
    failures.sort_by(|left, right| right.count.cmp(&left.count).then_with(|| left.reason.cmp(&right.reason)));
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger_item(attributes: &[(&str, AttributeValue)]) -> Item {
        let key = ("pk".to_owned(), AttributeValue::S("delivery#clay_1".to_owned()));
        std::iter::once(key).chain(attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect()
    }

    fn string_value(value: &str) -> AttributeValue {
        AttributeValue::S(value.to_owned())
    }

    fn number_value(value: i64) -> AttributeValue {
        AttributeValue::N(value.to_string())
    }

    #[test]
    fn redriven_delivery_is_waiting_until_attempted() {
        let dead = [("state", string_value("dead")), ("last_attempt_at", number_value(5_000))];
        assert_eq!(record_from_item(&ledger_item(&dead)).unwrap().state, DeliveryState::Dead);
        let redriven = [dead.as_slice(), &[("retried_at", number_value(6_000))]].concat();
        assert_eq!(record_from_item(&ledger_item(&redriven)).unwrap().state, DeliveryState::Waiting);
        let reattempted = [redriven.as_slice(), &[("last_attempt_at", number_value(7_000))]].concat();
        assert_eq!(record_from_item(&ledger_item(&reattempted)).unwrap().state, DeliveryState::Dead);
    }

    #[test]
    fn sync_delivery_in_progress_is_not_listed() {
        assert!(record_from_item(&ledger_item(&[("state", string_value("sending"))])).is_none());
    }

    #[test]
    fn failure_reasons_are_sorted_by_count() {
        let item = ledger_item(&[
            ("failed#destination_throttled#429", number_value(2)),
            ("failed#timed_out#0", number_value(7)),
        ]);
        let counted: Vec<_> =
            failure_records(&item).into_iter().map(|failure| (failure.reason, failure.status, failure.count)).collect();
        assert_eq!(counted, [("timed_out".to_owned(), None, 7), ("destination_throttled".to_owned(), Some(429), 2)]);
    }
}
