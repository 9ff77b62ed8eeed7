//! The deliveries of a data folder, as an operator reads and pauses them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use relay::ports::admin::{Admin, DeliveryPage, DeliveryQuery, DeliveryRecord, PageKey, QueueStatus};
use relay::ports::webhook_usage::WebhookUsage;
use relay_core::account::ServedAccounts;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::accounts;
use crate::admin::connection::{self, Error};
use crate::admin::{pages, queries};
use crate::webhook_usage::webhook_usage;

/// Totals of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSummary {
    /// Number of deliveries, without those that a caller still waits for.
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
    pub(crate) connection: Connection,
}

impl SqliteAdmin {
    /// Opens the store of a data folder.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self { connection: connection::open(dir)? })
    }

    /// Returns the `seq` of the delivery that arrived last.
    pub fn last_seq(&self) -> Result<i64, Error> {
        let sql = "SELECT coalesce(max(seq), 0) FROM deliveries";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Returns the deliveries that arrived after the one with this `seq`, that are being sent, and that were settled or failed
    /// since a time, by their `seq` and without their failures.
    pub fn changed(&self, after: i64, since: Timestamp) -> Result<BTreeMap<i64, DeliveryRecord>, Error> {
        Ok(pages::changed(&self.connection, after, since)?)
    }

    /// Returns the state of a webhook's deliveries: a delivery that is not settled counts before the others.
    pub fn webhook_state(&self, webhook_id: &str) -> Result<Option<DeliveryState>, Error> {
        let mut statement = self.connection.prepare_cached("SELECT state FROM deliveries WHERE id = ?1")?;
        let mut found = None;
        for id in pages::ids_of_webhook(webhook_id, &[]) {
            let stored: Option<String> = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
            let state = stored.map(|stored| pages::to_state(&stored));
            found = state.filter(|state| *state == DeliveryState::Waiting).or(found).or(state);
        }
        Ok(found)
    }

    /// Whether a delivery of this direction is on record.
    pub fn has_any(&self, direction: Direction) -> Result<bool, Error> {
        let totals = queries::totals(&self.connection, direction)?;
        Ok(totals.waiting + totals.delivered + totals.dead > 0)
    }

    /// Returns how a Clay webhook has been used, by its fingerprint.
    pub fn webhook_usage(&self, fingerprint: &str) -> Result<WebhookUsage, Error> {
        Ok(webhook_usage(&self.connection, fingerprint)?)
    }

    /// Returns the totals of the store.
    pub fn summary(&self) -> Result<StoreSummary, Error> {
        let connection = &self.connection;
        let mut summary = StoreSummary {
            deliveries: 0,
            waiting: 0,
            oldest_waiting_at: None,
            dead_letters: 0,
            other_destination: queries::other_destination_count(connection)?,
            last_delivered_at: queries::last_delivered_at(connection)?,
        };
        for direction in Direction::ALL {
            let (totals, backlog) = (queries::totals(connection, direction)?, queries::backlog(connection, direction)?);
            summary.deliveries += totals.waiting + totals.delivered + totals.dead;
            summary.waiting += totals.waiting;
            summary.dead_letters += totals.dead;
            summary.oldest_waiting_at = summary.oldest_waiting_at.into_iter().chain(backlog.oldest_received_at).min();
        }
        Ok(summary)
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

    async fn latest_deliveries(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<DeliveryRecord>, Self::Error> {
        let found = pages::latest(&self.connection, query, limit)?;
        progress(found.len());
        Ok(found.into_values().collect())
    }

    async fn deliveries_page(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        key: Option<&PageKey>,
    ) -> Result<DeliveryPage, Self::Error> {
        // No delivery arrived before a key that is none of this store's.
        let before = key.map_or(i64::MAX, |PageKey(seq)| seq.parse().unwrap_or(0));
        let (found, next) = pages::page(&self.connection, query, limit, before)?;
        let next = next.map(|seq| PageKey(seq.to_string()));
        Ok(DeliveryPage { records: found.into_values().rev().collect(), next })
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<Option<DeliveryRecord>, Self::Error> {
        Ok(pages::delivery(&self.connection, id)?)
    }

    async fn body(&self, id: &DeliveryId) -> Result<Option<Bytes>, Self::Error> {
        Ok(pages::body(&self.connection, id)?.map(Bytes::from))
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, Self::Error> {
        let status = |direction| {
            let totals = queries::totals(&self.connection, direction)?;
            Ok(QueueStatus {
                direction,
                waiting: totals.waiting.into(),
                held: Some(queries::held_count(&self.connection, direction)?.into()),
                dead_letters: totals.dead.into(),
                oldest_received_at: queries::backlog(&self.connection, direction)?.oldest_received_at,
            })
        };
        Direction::ALL.into_iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use relay_core::account::AccountId;
    use relay_core::delivery::BodyHash;

    use super::*;
    use crate::schema::open;

    fn insert(connection: &Connection, id: &str, direction: &str, state: &str) {
        let sql = "INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at, contact_hash,
                     settled_at)
                   VALUES (?1, ?2, ?3, 'c', 'contact', 'h', 1, 1, 'ada', iif(?3 IN ('delivered', 'dead'), 1, NULL))";
        connection.execute(sql, params![id, direction, state]).unwrap();
    }

    fn new_admin(dir: &tempfile::TempDir) -> SqliteAdmin {
        SqliteAdmin { connection: open(dir.path(), Timestamp::UNIX_EPOCH).unwrap().writer }
    }

    #[tokio::test]
    async fn pages_have_each_matching_delivery_once_and_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        let states = ["waiting", "sending", "direct", "delivered", "dead"];
        for number in 0..50_usize {
            insert(
                &admin.connection,
                &format!("{number:02}"),
                Direction::ALL[number / 5 % 2].as_str(),
                states[number % 5],
            );
        }
        let contact = Some("ada".to_owned());
        for (query, expected) in [
            (DeliveryQuery::default(), 40),
            (DeliveryQuery { contact_hash: contact.clone(), ..DeliveryQuery::default() }, 40),
            (DeliveryQuery { direction: Some(Direction::LoopsToClay), ..DeliveryQuery::default() }, 20),
            (DeliveryQuery { state: Some(DeliveryState::Waiting), ..DeliveryQuery::default() }, 20),
            (DeliveryQuery { state: Some(DeliveryState::Dead), contact_hash: contact, ..DeliveryQuery::default() }, 10),
            (DeliveryQuery { contact_hash: Some("bob".to_owned()), ..DeliveryQuery::default() }, 0),
        ] {
            let (mut ids, mut key) = (Vec::new(), None);
            loop {
                let page = admin.deliveries_page(&query, 7, key.as_ref()).await.unwrap();
                assert!(page.records.len() <= 7);
                ids.extend(page.records.into_iter().map(|record| record.id));
                key = page.next;
                if key.is_none() {
                    break;
                }
            }
            assert!(ids.len() == expected && ids.is_sorted_by(|newer, older| newer > older), "{query:?}: {ids:?}");
            let latest = admin.latest_deliveries(&query, 7, &|_| ()).await.unwrap();
            let latest: Vec<&String> = latest.iter().map(|record| &record.id).rev().collect();
            assert_eq!(latest, ids.iter().take(7).collect::<Vec<_>>(), "{query:?}");
        }
    }

    /// Follows the pages of a query to the last one.
    async fn all_pages(admin: &SqliteAdmin, query: &DeliveryQuery) -> Vec<String> {
        let (mut ids, mut key) = (Vec::new(), None);
        loop {
            let page = admin.deliveries_page(query, 7, key.as_ref()).await.unwrap();
            ids.extend(page.records.into_iter().map(|record| record.id));
            key = page.next;
            if key.is_none() {
                return ids;
            }
        }
    }

    #[tokio::test]
    async fn reason_is_found_behind_any_number_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        let sql = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5000)
                   INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at, reason)
                   SELECT n, 'clay-to-loops', iif(n % 2, 'waiting', 'dead'), n, 'contact', 'h', 1, 1,
                     iif(n % 1000 < 2, 'expired', 'timed_out') FROM numbers";
        admin.connection.execute(sql, []).unwrap();
        let query = |state| DeliveryQuery { reason: Some("expired".to_owned()), state, ..DeliveryQuery::default() };
        let of = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>();
        let all = of(&[5000, 4001, 4000, 3001, 3000, 2001, 2000, 1001, 1000, 1]);
        assert_eq!(all_pages(&admin, &query(None)).await, all);
        let waiting = of(&[4001, 3001, 2001, 1001, 1]);
        assert_eq!(all_pages(&admin, &query(Some(DeliveryState::Waiting))).await, waiting);
        assert!(all_pages(&admin, &query(Some(DeliveryState::Delivered))).await.is_empty());
        let latest = admin.latest_deliveries(&query(Some(DeliveryState::Waiting)), 3, &|_| ()).await.unwrap();
        assert_eq!(latest.into_iter().map(|record| record.id).collect::<Vec<_>>(), of(&[2001, 3001, 4001]));
    }

    #[tokio::test]
    async fn held_deliveries_are_listed_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        for (id, direction, state) in [
            ("failed", "loops-to-clay", "waiting"),
            ("held", "loops-to-clay", "waiting"),
            ("other", "clay-to-loops", "waiting"),
            ("was held", "loops-to-clay", "delivered"),
        ] {
            insert(&admin.connection, id, direction, state);
        }
        admin.connection.execute("UPDATE deliveries SET held_since = 5000 WHERE id <> 'failed'", []).unwrap();
        let held = DeliveryQuery { held: true, ..DeliveryQuery::default() };
        assert_eq!(all_pages(&admin, &held).await, ["other", "held"]);
        let one_way = DeliveryQuery { direction: Some(Direction::LoopsToClay), ..held.clone() };
        assert_eq!(all_pages(&admin, &one_way).await, ["held"]);
        let dead = DeliveryQuery { state: Some(DeliveryState::Dead), ..held };
        assert!(all_pages(&admin, &dead).await.is_empty());
        let queues = admin.queues().await.unwrap();
        assert_eq!(queues.iter().map(|queue| queue.held).collect::<Vec<_>>(), [Some(1), Some(1)]);
        assert_eq!(queues[0].oldest_received_at, Timestamp::from_millisecond(1).ok());
        let since = |id: &str| {
            pages::delivery(&admin.connection, &DeliveryId::from_stored(id.to_owned())).unwrap().unwrap().held_since
        };
        assert_eq!((since("held"), since("was held")), (Timestamp::from_second(5).ok(), None));
    }

    #[tokio::test]
    async fn body_is_read_of_what_waits_or_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        for state in ["waiting", "sending", "direct", "dead", "delivered"] {
            insert(&admin.connection, state, "clay-to-loops", state);
        }
        admin.connection.execute("UPDATE deliveries SET body = x'7b7d' WHERE state <> 'delivered'", []).unwrap();
        for (id, expected) in [
            ("waiting", Some("{}")),
            ("sending", Some("{}")),
            ("dead", Some("{}")),
            ("direct", None),
            ("delivered", None),
            ("unknown", None),
        ] {
            let body = admin.body(&DeliveryId::from_stored(id.to_owned())).await.unwrap();
            assert_eq!(body.as_deref(), expected.map(str::as_bytes), "{id}");
        }
    }

    #[tokio::test]
    async fn webhook_is_found_by_route_account_and_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        let first = DeliveryId::for_webhook("default", "msg_1");
        let simulated = DeliveryId::for_webhook_in("default", "msg_1", &AccountId::simulated());
        let conflict = first.with_body_hash(&BodyHash::compute(b"other"));
        let other = DeliveryId::for_webhook("default", "msg_2");
        for (id, state) in [(&first, "delivered"), (&simulated, "waiting"), (&conflict, "dead"), (&other, "dead")] {
            insert(&admin.connection, id.as_str(), "loops-to-clay", state);
        }
        let query = DeliveryQuery { webhook_id: Some("msg_1".to_owned()), ..DeliveryQuery::default() };
        let found = admin.latest_deliveries(&query, 10, &|_| ()).await.unwrap();
        let ids: Vec<&str> = found.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, [first.as_str(), simulated.as_str(), conflict.as_str()]);
        assert_eq!(admin.webhook_state("msg_1").unwrap(), Some(DeliveryState::Waiting));
        assert_eq!(admin.webhook_state("msg_2").unwrap(), Some(DeliveryState::Dead));
        assert_eq!(admin.webhook_state("msg_3").unwrap(), None);
    }

    #[test]
    fn changed_deliveries_are_new_sending_settled_or_failed() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        for (id, state) in [("old", "waiting"), ("failed", "waiting"), ("sent", "sending"), ("settled", "dead")] {
            insert(&admin.connection, id, "loops-to-clay", state);
        }
        let sql = "UPDATE deliveries SET settled_at = 5000 WHERE id = 'settled';
                   INSERT INTO failures VALUES ('failed', 'timed_out', 0, 1, 5000), ('old', 'timed_out', 0, 1, 4999)";
        admin.connection.execute_batch(sql).unwrap();
        let last_seq = admin.last_seq().unwrap();
        for (id, state) in [("new", "waiting"), ("caller's", "direct")] {
            insert(&admin.connection, id, "clay-to-loops", state);
        }
        let changed = admin.changed(last_seq, Timestamp::from_second(5).unwrap()).unwrap();
        let ids: Vec<&str> = changed.values().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["failed", "sent", "settled", "new"]);
    }

    #[test]
    fn totals_follow_every_change_of_state() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
        let totals = || {
            let totals = queries::totals(&admin.connection, Direction::LoopsToClay).unwrap();
            (totals.waiting, totals.delivered, totals.dead)
        };
        let states = ["waiting", "sending", "direct", "delivered", "dead"];
        for from in states {
            for to in states {
                let before = totals();
                insert(&admin.connection, "1", "loops-to-clay", from);
                admin.connection.execute("UPDATE deliveries SET state = ?1", [to]).unwrap();
                let expected = match to {
                    "waiting" | "sending" => (1, 0, 0),
                    "delivered" => (0, 1, 0),
                    "dead" => (0, 0, 1),
                    _ => (0, 0, 0),
                };
                assert_eq!((before, totals()), ((0, 0, 0), expected), "{from} to {to}");
                admin.connection.execute("DELETE FROM deliveries", []).unwrap();
            }
        }
    }

    #[test]
    fn pause_affects_one_direction_and_keeps_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let admin = new_admin(&dir);
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
