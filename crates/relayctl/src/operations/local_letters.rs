//! The dead letters of a data folder.

use jiff::Timestamp;
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::store::{self, DeliveryState, StoreQuery};
use rusqlite::Connection;

use crate::error::Error;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};
use crate::operations::local::open_store;

/// The dead letters in the store of a folder.
#[derive(Debug)]
pub struct LocalDeadLetters {
    connection: Connection,
    was_read: bool,
}

impl LocalDeadLetters {
    /// Opens the store of a folder.
    ///
    /// # Errors
    /// When there is none, or it is not one that this program knows.
    pub fn open(data_dir: &DataDir) -> Result<Self, Error> {
        Ok(Self { connection: open_store(data_dir)?, was_read: false })
    }
}

impl DeadLetterQueue for LocalDeadLetters {
    /// All of them at once.
    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Error> {
        if std::mem::replace(&mut self.was_read, true) {
            return Ok(Vec::new());
        }
        let search = StoreQuery { state: Some(DeliveryState::Dead), ..StoreQuery::default() };
        let dead_letters = store::query(&self.connection, &search)?.into_iter().map(|found| DeadLetter {
            key: found.delivery.id.as_str().to_owned(),
            receipt_handle: None,
            raw_body: None,
            direction: found.delivery.kind.direction(),
            body_len: found.delivery.body.len(),
            reason: found.reason,
            status: found.status,
            attempts: Some(found.attempts),
            dead_lettered_at: found.settled_at,
            delivery: Some(found.delivery),
        });
        Ok(dead_letters.collect())
    }

    async fn plan_redrive(&self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        Ok(to_outcome(store::plan_redrive(&self.connection, &dead_letter.key, even_if_older)?))
    }

    async fn redrive(&mut self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        Ok(to_outcome(store::redrive(&mut self.connection, &dead_letter.key, even_if_older, Timestamp::now())?))
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, Error> {
        Ok(store::delete(&mut self.connection, &dead_letter.key)?)
    }

    /// Nobody is kept away from them.
    async fn release(&mut self) {
        self.was_read = false;
    }

    async fn count(&self) -> Result<u64, Error> {
        let queues = super::DIRECTIONS.into_iter().map(|direction| store::queue_status(&self.connection, direction));
        let queues: Vec<_> = queues.collect::<Result<_, _>>()?;
        Ok(queues.into_iter().map(|(_, count)| u64::from(count)).sum())
    }
}

const fn to_outcome(outcome: store::RedriveOutcome) -> RedriveOutcome {
    match outcome {
        store::RedriveOutcome::Requeued => RedriveOutcome::Redriven,
        store::RedriveOutcome::NotFound => RedriveOutcome::NotFound,
        store::RedriveOutcome::Superseded => RedriveOutcome::Superseded,
    }
}
