//! The deliveries of a data folder, as an operator reads and pauses them.

use std::path::Path;

use jiff::Timestamp;
use relay::ports::admin::{Admin, DeliveryQuery, DeliveryRecord, QueueStatus};
use relay::ports::webhook_usage::WebhookUsage;
use relay_core::account::ServedAccounts;
use relay_core::delivery::{DeliveryId, Direction, ReasonCode};
use relay_core::delivery_state::DeliveryState;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::accounts;
use crate::admin::connection::{self, Error};
use crate::admin::queries::{self, Filter};
use crate::delivery_row::timestamp;
use crate::webhook_usage::webhook_usage;

/// Totals of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSummary {
    /// Number of deliveries in any state.
    pub deliveries: u32,
    /// Number of deliveries that wait.
    pub waiting: u32,
    /// When the oldest of them arrived.
    pub oldest_waiting_at: Option<Timestamp>,
    /// Number of dead letters.
    pub dead_letters: u32,
    /// Number of those that were taken for another account than was served.
    pub other_destination: u32,
    /// When a delivery was last delivered.
    pub last_delivered_at: Option<Timestamp>,
}

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

    /// Returns the deliveries that arrived or were settled since a time, and those that are not settled, without their
    /// failures.
    pub fn changed_since(&self, since: Timestamp) -> Result<Vec<DeliveryRecord>, Error> {
        Ok(queries::without_failures(&self.connection, &Filter { changed_since: Some(since), ..Filter::default() })?)
    }

    /// Returns the state of a webhook's deliveries: a delivery that is not settled counts before the others.
    pub fn webhook_state(&self, webhook_id: &str) -> Result<Option<DeliveryState>, Error> {
        let sql = "SELECT state FROM deliveries WHERE webhook_id = ?1 ORDER BY settled_at IS NULL DESC LIMIT 1";
        let stored: Option<String> = self.connection.query_row(sql, [webhook_id], |row| row.get(0)).optional()?;
        Ok(stored.map(|stored| queries::to_state(&stored)))
    }

    /// Returns how a Clay webhook has been used, by its fingerprint.
    pub fn webhook_usage(&self, fingerprint: &str) -> Result<WebhookUsage, Error> {
        Ok(webhook_usage(&self.connection, fingerprint)?)
    }

    /// Returns the totals of the store.
    pub fn summary(&self) -> Result<StoreSummary, Error> {
        let sql = "SELECT count(*) AS deliveries,
                          count(*) FILTER (WHERE state IN ('waiting', 'sending')) AS waiting,
                          min(received_at) FILTER (WHERE state IN ('waiting', 'sending')) AS oldest_waiting_at,
                          count(*) FILTER (WHERE state = 'dead') AS dead_letters,
                          count(*) FILTER (WHERE state = 'dead' AND reason = ?1) AS other_destination,
                          max(settled_at) FILTER (WHERE state = 'delivered') AS last_delivered_at
                   FROM deliveries WHERE state <> 'direct'";
        let summary = self.connection.query_row(sql, [ReasonCode::OtherDestination.as_str()], |row| {
            Ok(StoreSummary {
                deliveries: row.get("deliveries")?,
                waiting: row.get("waiting")?,
                oldest_waiting_at: timestamp(row, "oldest_waiting_at")?,
                dead_letters: row.get("dead_letters")?,
                other_destination: row.get("other_destination")?,
                last_delivered_at: timestamp(row, "last_delivered_at")?,
            })
        });
        Ok(summary?)
    }

    /// Returns the accounts that the store has served.
    pub fn accounts(&self) -> Result<ServedAccounts, Error> {
        Ok(accounts::served(&self.connection)?)
    }

    /// Returns since when a direction is paused, if it is.
    pub fn paused_since(&self, direction: Direction) -> Result<Option<Timestamp>, Error> {
        Ok(queries::paused_since(&self.connection, direction)?)
    }

    /// Pauses a direction, so that no attempt begins, or ends its pause. Returns false if that changes nothing.
    pub fn set_paused(&self, direction: Direction, paused: bool, now: Timestamp) -> Result<bool, Error> {
        let (direction, now) = (direction.as_str(), now.as_millisecond());
        let changed = if paused {
            let sql = "INSERT INTO paused (direction, since) VALUES (?1, ?2) ON CONFLICT (direction) DO NOTHING";
            self.connection.execute(sql, params![direction, now])?
        } else {
            self.connection.execute("DELETE FROM paused WHERE direction = ?1", [direction])?
        };
        Ok(changed == 1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::open;

    #[test]
    fn pause_affects_one_direction_and_keeps_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let admin = SqliteAdmin { connection: open(dir.path(), Timestamp::UNIX_EPOCH).unwrap().writer };
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(admin.paused_since(Direction::LoopsToClay).unwrap(), None);
        assert!(admin.set_paused(Direction::LoopsToClay, true, at(1)).unwrap());
        assert!(!admin.set_paused(Direction::LoopsToClay, true, at(2)).unwrap());
        assert_eq!(admin.paused_since(Direction::LoopsToClay).unwrap(), Some(at(1)));
        assert_eq!(admin.paused_since(Direction::ClayToLoops).unwrap(), None);
        assert!(admin.set_paused(Direction::LoopsToClay, false, at(3)).unwrap());
        assert!(!admin.set_paused(Direction::LoopsToClay, false, at(3)).unwrap());
    }
}
