//! The deliveries of a stack in the records of this program.

use relay::ports::admin::Admin as _;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{DeliveryId, Direction};

use super::{Admin, DeliveryQuery};
use crate::aws::pause;
use crate::error::Error;
use crate::operations::record::{DeliveryRecord, FailureRecord, PauseResult, QueueRecord};
use crate::progress;
use crate::target::StackTarget;

/// The ledger and the queues of a stack.
#[derive(Debug)]
pub struct StackAdmin<'a> {
    target: &'a StackTarget,
    quiet: bool,
}

impl<'a> StackAdmin<'a> {
    /// Those of this stack; `quiet` shows no progress.
    #[must_use]
    pub const fn new(target: &'a StackTarget, quiet: bool) -> Self {
        Self { target, quiet }
    }
}

impl Admin for StackAdmin<'_> {
    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, Error> {
        let routes = if query.webhook_id.is_some() && query.routes.is_empty() {
            self.target.route_names().await?
        } else {
            query.routes.clone()
        };
        let query = relay::ports::admin::DeliveryQuery {
            state: query.state,
            direction: query.direction,
            contact_hash: query.contact_hash.clone(),
            webhook_id: query.webhook_id.clone(),
            routes,
            limit: query.limit,
        };
        let spinner = progress::spinner(self.quiet, "reading the ledger");
        let show_progress = |found| spinner.set_message(format!("reading the ledger: {found} found"));
        let records = self.target.admin()?.deliveries(&query, &show_progress).await?;
        spinner.finish_and_clear();
        Ok(records.into_iter().map(to_record).collect())
    }

    async fn delivery(&self, id: &str) -> Result<Option<DeliveryRecord>, Error> {
        let record = self.target.admin()?.delivery(&DeliveryId::from_stored(id.to_owned())).await?;
        Ok(record.map(to_record))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, Error> {
        let mut queues = Vec::new();
        for queue in self.target.admin()?.queues().await? {
            let relay::ports::admin::QueueStatus { direction, waiting, dead_letters } = queue;
            let (paused, paused_since) = pause::pause_state(self.target, direction).await?;
            queues.push(QueueRecord { direction, waiting, dead_letters, paused, paused_since });
        }
        Ok(queues)
    }

    async fn set_paused(&self, direction: Direction, paused: bool) -> Result<PauseResult, Error> {
        let changed = pause::set_paused(self.target, direction, paused).await?;
        Ok(PauseResult { direction, paused, changed })
    }

    fn log_group_prefix(&self) -> Option<&str> {
        Some(&self.target.stack.name)
    }

    /// The last part of the stack's id, as the template has it.
    fn contact_hash_key(&self) -> Result<Option<ContactHashKey>, Error> {
        Ok(self.target.stack.id.split('/').nth(2).and_then(ContactHashKey::new))
    }
}

fn to_record(record: relay::ports::admin::DeliveryRecord) -> DeliveryRecord {
    let failures = record.failures.into_iter();
    DeliveryRecord {
        id: record.id,
        direction: record.direction,
        state: record.state,
        attempts: record.attempts,
        reason: record.reason,
        status: record.status,
        kind: record.kind,
        route: record.route,
        webhook_id: record.webhook_id,
        contact_hash: record.contact_hash,
        received_at: record.received_at,
        first_attempt_at: record.first_attempt_at,
        last_attempt_at: record.last_attempt_at,
        next_attempt_at: record.next_attempt_at,
        settled_at: record.settled_at,
        dropped_at: record.dropped_at,
        failures: failures
            .map(|failure| FailureRecord { reason: failure.reason, status: failure.status, count: failure.count })
            .collect(),
    }
}
