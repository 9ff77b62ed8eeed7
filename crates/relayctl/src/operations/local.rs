//! The ports of a data folder, behind the traits that the stack's adapters still implement.

use std::sync::Arc;

use jiff::Timestamp;
use relay::config::names::CONTACT_HASH_KEY;
use relay::ports::admin::{self, Admin as _};
use relay::ports::clock::SystemClock;
use relay::ports::dead_letters::{self, DeadLetterQueue as _};
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{DeliveryId, Direction};
use relay_sqlite::admin::{SqliteAdmin, SqliteDeadLetters};
use relay_sqlite::data_dir::DataDir;

use super::{Admin, DeliveryQuery};
use crate::error::Error;
use crate::local::error::Error as LocalError;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};
use crate::operations::record::{DeliveryRecord, FailureRecord, PauseResult, QueueRecord};

/// The deliveries of a data folder.
#[derive(Debug)]
pub struct LocalAdmin {
    data_dir: DataDir,
    admin: SqliteAdmin,
}

impl LocalAdmin {
    /// Opens the store of a data folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    pub fn open(data_dir: DataDir) -> Result<Self, LocalError> {
        let admin = SqliteAdmin::open(data_dir.path())?;
        Ok(Self { data_dir, admin })
    }
}

impl Admin for LocalAdmin {
    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, Error> {
        let query = admin::DeliveryQuery {
            state: query.state,
            direction: query.direction,
            contact_hash: query.contact_hash.clone(),
            webhook_id: query.webhook_id.clone(),
            routes: Vec::new(),
            limit: query.limit,
        };
        let records = self.admin.deliveries(&query, &|_| ()).await.map_err(LocalError::from)?;
        Ok(records.into_iter().map(|record| DeliveryRecord { failures: Vec::new(), ..to_record(record) }).collect())
    }

    async fn delivery(&self, id: &str) -> Result<Option<DeliveryRecord>, Error> {
        let record = self.admin.delivery(&DeliveryId::from_stored(id.to_owned())).await.map_err(LocalError::from)?;
        Ok(record.map(to_record))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, Error> {
        let mut queues = Vec::new();
        for status in self.admin.queues().await.map_err(LocalError::from)? {
            let admin::QueueStatus { direction, waiting, dead_letters } = status;
            let paused_since = self.admin.paused_since(direction).map_err(LocalError::from)?;
            let paused = paused_since.is_some();
            queues.push(QueueRecord { direction, waiting, dead_letters, paused, paused_since });
        }
        Ok(queues)
    }

    async fn set_paused(&self, direction: Direction, paused: bool) -> Result<PauseResult, Error> {
        let changed = self.admin.set_paused(direction, paused, Timestamp::now()).map_err(LocalError::from)?;
        Ok(PauseResult { direction, paused, changed })
    }

    fn log_group_prefix(&self) -> Option<&str> {
        None
    }

    fn contact_hash_key(&self) -> Result<Option<ContactHashKey>, Error> {
        let env_key = std::env::var(CONTACT_HASH_KEY).ok().and_then(|key| ContactHashKey::new(&key));
        match env_key {
            Some(key) => Ok(Some(key)),
            None => Ok(ContactHashKey::new(&self.data_dir.contact_hash_key().map_err(LocalError::from)?)),
        }
    }
}

/// The dead letters of a data folder.
#[derive(Debug)]
pub struct LocalDeadLetters(SqliteDeadLetters);

impl LocalDeadLetters {
    /// Opens the store of a data folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    pub fn open(data_dir: &DataDir) -> Result<Self, LocalError> {
        Ok(Self(SqliteDeadLetters::open(data_dir.path(), Arc::new(SystemClock))?))
    }
}

impl DeadLetterQueue for LocalDeadLetters {
    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Error> {
        let page = self.0.next_page().await.map_err(LocalError::from)?;
        Ok(page.into_iter().map(to_dead_letter).collect())
    }

    async fn plan_redrive(&self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let planned = self.0.plan_redrive(&to_port(dead_letter), even_if_older).await.map_err(LocalError::from)?;
        Ok(to_outcome(planned))
    }

    async fn redrive(&mut self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let outcome = self.0.redrive(&to_port(dead_letter), even_if_older).await.map_err(LocalError::from)?;
        Ok(to_outcome(outcome))
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, Error> {
        Ok(self.0.delete(&to_port(dead_letter)).await.map_err(LocalError::from)?)
    }

    async fn release(&mut self) {
        self.0.release().await;
    }

    async fn count(&self) -> Result<u64, Error> {
        Ok(self.0.count().await.map_err(LocalError::from)?)
    }
}

fn to_record(record: admin::DeliveryRecord) -> DeliveryRecord {
    let to_failure = |failure: admin::FailureCount| FailureRecord {
        reason: failure.reason,
        status: failure.status,
        count: failure.count,
    };
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
        failures: record.failures.into_iter().map(to_failure).collect(),
    }
}

fn to_dead_letter(dead_letter: dead_letters::DeadLetter) -> DeadLetter {
    let body_len = dead_letter.body().len();
    let (delivery, raw_body) = match dead_letter.content {
        Ok(delivery) => (Some(delivery), None),
        Err(body) => (None, Some(body)),
    };
    DeadLetter {
        key: dead_letter.key,
        receipt_handle: None,
        direction: dead_letter.direction,
        delivery,
        raw_body,
        body_len,
        reason: dead_letter.reason,
        status: dead_letter.status,
        attempts: dead_letter.attempts,
        dead_lettered_at: dead_letter.dead_lettered_at,
    }
}

fn to_port(dead_letter: &DeadLetter) -> dead_letters::DeadLetter {
    dead_letters::DeadLetter {
        key: dead_letter.key.clone(),
        direction: dead_letter.direction,
        content: dead_letter.delivery.clone().ok_or_else(|| dead_letter.raw_body.clone().unwrap_or_default()),
        reason: dead_letter.reason.clone(),
        status: dead_letter.status,
        attempts: dead_letter.attempts,
        dead_lettered_at: dead_letter.dead_lettered_at,
    }
}

fn to_outcome(outcome: dead_letters::RedriveOutcome) -> RedriveOutcome {
    let same = |candidate: &RedriveOutcome| candidate.as_str() == outcome.as_str();
    RedriveOutcome::ALL.into_iter().find(same).unwrap_or(RedriveOutcome::NotFound)
}
