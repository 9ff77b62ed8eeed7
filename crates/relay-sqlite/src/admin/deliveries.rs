//! The deliveries of a data folder, as an operator reads and pauses them.

use std::path::Path;

use jiff::Timestamp;
use relay::ports::admin::{Admin, DeliveryQuery, DeliveryRecord, QueueStatus};
use relay::ports::webhook_usage::WebhookUsage;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use rusqlite::Connection;

use crate::admin::connection::{self, Error};
use crate::admin::pause;
use crate::admin::queries::{self, Filter, StoreSummary};
use crate::webhook_usage::webhook_usage;

/// The store of a data folder, for an operator.
#[derive(Debug)]
pub struct SqliteAdmin {
    connection: Connection,
}

impl SqliteAdmin {
    /// Opens the store of a data folder.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self { connection: connection::open(dir)? })
    }

    /// Returns the deliveries that arrived or were settled since a time, and those that are not settled.
    pub fn changed_since(&self, since: Timestamp) -> Result<Vec<DeliveryRecord>, Error> {
        Ok(queries::deliveries(&self.connection, &Filter { changed_since: Some(since), ..Filter::default() })?)
    }

    /// Returns the state of a webhook's deliveries: a delivery that is not settled counts before the others.
    pub fn webhook_state(&self, webhook_id: &str) -> Result<Option<DeliveryState>, Error> {
        Ok(queries::webhook_state(&self.connection, webhook_id)?)
    }

    /// Returns how a Clay webhook has been used, by its fingerprint.
    pub fn webhook_usage(&self, fingerprint: &str) -> Result<WebhookUsage, Error> {
        Ok(webhook_usage(&self.connection, fingerprint)?)
    }

    /// Returns the totals of the store.
    pub fn summary(&self) -> Result<StoreSummary, Error> {
        Ok(queries::summary(&self.connection)?)
    }

    /// Returns since when a direction is paused, if it is.
    pub fn paused_since(&self, direction: Direction) -> Result<Option<Timestamp>, Error> {
        Ok(pause::paused_since(&self.connection, direction)?)
    }

    /// Pauses a direction, or ends its pause. Returns false if that changes nothing.
    pub fn set_paused(&self, direction: Direction, paused: bool, now: Timestamp) -> Result<bool, Error> {
        Ok(pause::set_paused(&self.connection, direction, paused, now)?)
    }
}

impl Admin for SqliteAdmin {
    type Error = Error;

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<DeliveryRecord>, Self::Error> {
        let found = queries::deliveries(&self.connection, &Filter { query: query.clone(), ..Filter::default() })?;
        progress(found.len());
        Ok(found)
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<Option<DeliveryRecord>, Self::Error> {
        let filter = Filter { id: Some(id.as_str().to_owned()), ..Filter::default() };
        Ok(queries::deliveries(&self.connection, &filter)?.pop())
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, Self::Error> {
        let status = |direction| {
            Ok(QueueStatus {
                direction,
                waiting: queries::backlog(&self.connection, direction)?.waiting.into(),
                dead_letters: queries::dead_letter_count(&self.connection, Some(direction))?.into(),
            })
        };
        Direction::ALL.into_iter().map(status).collect()
    }
}
