//! Deliveries in the ledger, and the sizes of the queues.

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use jiff::Timestamp;
use relay::ports::admin::{Admin, DeliveryPage, DeliveryQuery, DeliveryRecord, FailureCount, PageKey, QueueStatus};
use relay::ports::dead_letters::DeadLetterQueue as _;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;

use crate::admin::dead_letters::StackDeadLetters;
use crate::admin::{StackAdmin, message_count};
use crate::ledger::deliveries::{DELIVERY_KEY_PREFIX, LedgerState, attempt_count, delivery_key, state_of};
use crate::ledger::delivery_status::is_redriven;
use crate::ledger::failure_counts::all_counts;
use crate::ledger::items::{
    CONTACT_HASH, DIED_AT, DROPPED_AT, EXPIRES_AT, FIRST_ATTEMPT_AT, HELD_SINCE, KIND, LAST_ATTEMPT_AT, LAST_STATUS,
    NOT_BEFORE, PARTITION_KEY, REASON, RECEIVED_AT, STATE, STATE_NAME,
};
use crate::ledger::table::{Item, LedgerTable, TTL, number_attr, string_attr, time_attr};
use crate::sdk::error::AwsError;

/// Kind of a delivery to Clay.
const ROW: &str = "row";
/// Number of pages of 1 MB in which the latest delivery is looked for.
const MAX_SCAN_PAGES: usize = 5;

/// The latest delivered delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestDelivery {
    /// When the relay received it, and its direction.
    pub received: Option<(Timestamp, Direction)>,
    /// Whether the whole table was read.
    pub is_complete: bool,
}

impl Admin for StackAdmin {
    type Error = AwsError;

    /// The ledger has no order: all of it is read, and what is not among the latest is let go on the way.
    async fn latest_deliveries(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<DeliveryRecord>, AwsError> {
        let max_records = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut latest, mut found, mut next) = (Vec::new(), 0, None);
        loop {
            let page = self.deliveries_page(query, u32::MAX, next.as_ref()).await?;
            found += page.records.len();
            progress(found);
            latest.extend(page.records);
            latest.sort_by_key(|record| record.received_at);
            latest.drain(..latest.len().saturating_sub(max_records));
            next = page.next;
            if next.is_none() {
                return Ok(latest);
            }
        }
    }

    async fn deliveries_page(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        key: Option<&PageKey>,
    ) -> Result<DeliveryPage, AwsError> {
        let matches = |record: &DeliveryRecord| {
            // A dropped delivery is in none of the states that a query names.
            query.state.is_none_or(|state| record.state == state && record.dropped_at.is_none())
                && query.direction.is_none_or(|direction| record.direction == direction)
                && (query.contact_hash.is_none() || record.contact_hash == query.contact_hash)
                && (query.reason.is_none() || record.reason == query.reason)
                && (!query.held || record.held_since.is_some())
        };
        if let Some(webhook_id) = &query.webhook_id {
            let mut records = self.by_webhook_id(webhook_id, &query.routes).await?;
            records.retain(matches);
            return Ok(DeliveryPage { records, next: None });
        }
        let (limit, mut key) = (usize::try_from(limit).unwrap_or(usize::MAX), key.cloned());
        loop {
            let (mut records, next) = self.scan(query, key.as_ref()).await?;
            records.retain(matches);
            if records.len() > limit {
                records.truncate(limit);
                let next = records.last().map(|record| PageKey(format!("{DELIVERY_KEY_PREFIX}{}", record.id)));
                return Ok(DeliveryPage { records, next });
            }
            // What a reason or a hold is looked for in is one page of the table, so that a caller sees that it goes on.
            if next.is_none() || !records.is_empty() || query.reason.is_some() || query.held {
                return Ok(DeliveryPage { records, next });
            }
            key = next;
        }
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<Option<DeliveryRecord>, AwsError> {
        Ok(record_from_item(&self.ledger.get(&delivery_key(id)).await?))
    }

    /// Reads the dead letters until it is among them. Of what waits, SQS alone has the body, and gives it to its worker.
    async fn body(&self, id: &DeliveryId) -> Result<Option<Bytes>, AwsError> {
        let direction = match self.delivery(id).await? {
            Some(record) if record.state != DeliveryState::Dead || record.dropped_at.is_some() => return Ok(None),
            record => record.map(|record| record.direction),
        };
        let mut dead_letters = StackDeadLetters::new(self.clone(), direction);
        let body = loop {
            match dead_letters.next_page().await {
                Ok(page) if page.is_empty() => break Ok(None),
                Ok(page) => {
                    if let Some(found) = page.iter().find(|dead_letter| dead_letter.id() == id.as_str()) {
                        break Ok(Some(found.body().clone()));
                    }
                }
                Err(error) => break Err(error),
            }
        };
        dead_letters.release().await;
        body
    }

    /// The ledger would have to be read whole for what is held, and SQS does not say how old a message is.
    async fn queues(&self) -> Result<Vec<QueueStatus>, AwsError> {
        let mut queues = Vec::new();
        for direction in Direction::ALL {
            let urls = self.queues_of(direction);
            let waiting = message_count(&self.sqs, &urls.queue).await?;
            let dead_letters = message_count(&self.sqs, &urls.dead_letters).await?;
            queues.push(QueueStatus { direction, waiting, held: None, dead_letters, oldest_received_at: None });
        }
        Ok(queues)
    }
}

impl StackAdmin {
    /// Returns the deliveries of one webhook: one for each route that took it.
    async fn by_webhook_id(&self, webhook_id: &str, routes: &[String]) -> Result<Vec<DeliveryRecord>, AwsError> {
        let mut records = Vec::new();
        for route in routes {
            let item = self.ledger.get(&delivery_key(&DeliveryId::for_webhook(route, webhook_id))).await?;
            let (route, webhook_id) = (Some(route.clone()), Some(webhook_id.to_owned()));
            records.extend(record_from_item(&item).map(|record| DeliveryRecord { route, webhook_id, ..record }));
        }
        Ok(records)
    }

    /// Reads some of the ledger's items from a key on. Returns their records, and the key to go on with.
    async fn scan(
        &self,
        query: &DeliveryQuery,
        key: Option<&PageKey>,
    ) -> Result<(Vec<DeliveryRecord>, Option<PageKey>), AwsError> {
        let mut filter = format!("begins_with({PARTITION_KEY}, :deliveries)");
        let prefix = AttributeValue::S(DELIVERY_KEY_PREFIX.to_owned());
        let mut scan = self.ledger.scan().expression_attribute_values(":deliveries", prefix);
        if let Some(hash) = &query.contact_hash {
            filter.push_str(&format!(" AND {CONTACT_HASH} = :contact"));
            scan = scan.expression_attribute_values(":contact", AttributeValue::S(hash.clone()));
        }
        if let Some(direction) = query.direction {
            let comparison = if direction == Direction::LoopsToClay { "=" } else { "<>" };
            filter.push_str(&format!(" AND {KIND} {comparison} :row"));
            scan = scan.expression_attribute_values(":row", AttributeValue::S(ROW.to_owned()));
        }
        if let Some(reason) = &query.reason {
            filter.push_str(&format!(" AND {REASON} = :reason"));
            scan = scan.expression_attribute_values(":reason", AttributeValue::S(reason.clone()));
        }
        if query.held {
            filter.push_str(&format!(" AND attribute_exists({HELD_SINCE})"));
        }
        if let Some(PageKey(key)) = key {
            scan = scan.exclusive_start_key(PARTITION_KEY, AttributeValue::S(key.clone()));
        }
        let page = scan.filter_expression(filter).send().await;
        let page = page.map_err(|error| self.ledger.call("dynamodb:Scan").to_error(&error))?;
        let records = page.items.unwrap_or_default().iter().filter_map(record_from_item).collect();
        let next = page.last_evaluated_key.as_ref().and_then(|key| string_attr(key, PARTITION_KEY));
        Ok((records, next.map(|key| PageKey(key.to_owned()))))
    }
}

/// Returns the delivered delivery that was received last, as far as the first pages of the table have it.
///
/// # Errors
/// When the table cannot be read.
pub async fn latest_delivery(table: &LedgerTable) -> Result<LatestDelivery, AwsError> {
    let (mut received, mut start_key) = (None, None);
    for _ in 0..MAX_SCAN_PAGES {
        let scan = table
            .scan()
            .set_exclusive_start_key(start_key)
            .projection_expression(format!("{PARTITION_KEY}, {STATE_NAME}, {RECEIVED_AT}, {KIND}"))
            .expression_attribute_names(STATE_NAME, STATE);
        let page = scan.send().await.map_err(|error| table.call("dynamodb:Scan").to_error(&error))?;
        for item in page.items.unwrap_or_default() {
            if state_of(&item) == Some(LedgerState::Delivered) {
                received = received.max(time_attr(&item, RECEIVED_AT).map(|at| (at, direction_of(&item))));
            }
        }
        start_key = page.last_evaluated_key.filter(|key| !key.is_empty());
        if start_key.is_none() {
            return Ok(LatestDelivery { received, is_complete: true });
        }
    }
    Ok(LatestDelivery { received, is_complete: false })
}

fn direction_of(item: &Item) -> Direction {
    if string_attr(item, KIND) == Some(ROW) { Direction::LoopsToClay } else { Direction::ClayToLoops }
}

/// Returns the record of a delivery's item, unless its caller still waits for it.
fn record_from_item(item: &Item) -> Option<DeliveryRecord> {
    let id = string_attr(item, PARTITION_KEY)?.strip_prefix(DELIVERY_KEY_PREFIX)?.to_owned();
    let changed_at = number_attr(item, EXPIRES_AT).and_then(|at| Timestamp::from_second(at).ok()).map(|at| at - TTL);
    let last_attempt_at = time_attr(item, LAST_ATTEMPT_AT);
    // The operator's redrives and drops do not change the state: a worker starts afresh with what is dead.
    let since_last_attempt = |name| time_attr(item, name).filter(|at| Some(*at) > last_attempt_at);
    let state = match state_of(item)? {
        LedgerState::Sending => return None,
        LedgerState::Queued => DeliveryState::Waiting,
        LedgerState::Delivered => DeliveryState::Delivered,
        LedgerState::Dead if is_redriven(item) => DeliveryState::Waiting,
        LedgerState::Dead => DeliveryState::Dead,
    };
    let is_dead = state == DeliveryState::Dead;
    let status = number_attr(item, LAST_STATUS).and_then(|status| u16::try_from(status).ok());
    Some(DeliveryRecord {
        id,
        direction: direction_of(item),
        state,
        attempts: attempt_count(item),
        reason: string_attr(item, REASON).map(str::to_owned),
        status: status.filter(|status| *status > 0),
        kind: string_attr(item, KIND).unwrap_or_default().to_owned(),
        // The ledger has no contact key; the dead letter has.
        destination: None,
        route: None,
        webhook_id: None,
        contact_hash: string_attr(item, CONTACT_HASH).map(str::to_owned),
        received_at: time_attr(item, RECEIVED_AT),
        first_attempt_at: time_attr(item, FIRST_ATTEMPT_AT),
        last_attempt_at,
        next_attempt_at: time_attr(item, NOT_BEFORE),
        held_since: time_attr(item, HELD_SINCE).filter(|_| state == DeliveryState::Waiting && !is_redriven(item)),
        settled_at: if state == DeliveryState::Waiting { None } else { last_attempt_at.or(changed_at) },
        died_at: time_attr(item, DIED_AT).filter(|_| is_dead),
        dropped_at: since_last_attempt(DROPPED_AT).filter(|_| is_dead),
        failures: failure_counts(item),
    })
}

fn failure_counts(item: &Item) -> Vec<FailureCount> {
    let counts = all_counts(item).map(|(reason, status, count)| FailureCount {
        reason: reason.to_owned(),
        status,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        last_at: None,
    });
    let mut failures: Vec<FailureCount> = counts.collect();
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
            failure_counts(&item).into_iter().map(|failure| (failure.reason, failure.status, failure.count)).collect();
        assert_eq!(counted, [("timed_out".to_owned(), None, 7), ("destination_throttled".to_owned(), Some(429), 2)]);
    }
}
