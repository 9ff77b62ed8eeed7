//! The dead letters of a data folder.

use jiff::Timestamp;
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::store::{self, DeliveryState, Search};
use rusqlite::Connection;

use crate::error::Error;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};
use crate::operations::local::open;

/// The dead letters in the store of a folder.
#[derive(Debug)]
pub struct LocalLetters {
    connection: Connection,
    read: bool,
}

impl LocalLetters {
    /// Opens the store of a folder.
    ///
    /// # Errors
    /// When there is none, or it is not one that this program knows.
    pub fn open(folder: &DataDir) -> Result<Self, Error> {
        Ok(Self { connection: open(folder)?, read: false })
    }
}

impl DeadLetterQueue for LocalLetters {
    /// All of them at once.
    async fn read(&mut self) -> Result<Vec<DeadLetter>, Error> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(Vec::new());
        }
        let dead = Search { state: Some(DeliveryState::Dead), ..Search::default() };
        let letters = store::search(&self.connection, &dead)?.into_iter().map(|found| DeadLetter {
            key: found.delivery.id.as_str().to_owned(),
            receipt: None,
            raw_body: None,
            direction: found.delivery.kind.direction(),
            bytes: found.delivery.body.len(),
            reason: found.reason,
            status: found.status,
            attempts: Some(found.attempts),
            died_at: found.settled_at,
            delivery: Some(found.delivery),
        });
        Ok(letters.collect())
    }

    async fn plan_redrive(&self, letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        Ok(verdict(store::plan_redrive(&self.connection, &letter.key, even_if_older)?))
    }

    async fn retry(&mut self, letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        Ok(verdict(store::redrive(&mut self.connection, &letter.key, even_if_older, Timestamp::now())?))
    }

    async fn delete(&mut self, letter: &DeadLetter) -> Result<bool, Error> {
        Ok(store::delete(&mut self.connection, &letter.key)?)
    }

    /// Nobody is kept away from them.
    async fn release(&mut self) {
        self.read = false;
    }

    async fn count(&self) -> Result<u64, Error> {
        let queues = super::DIRECTIONS.into_iter().map(|direction| store::queue_status(&self.connection, direction));
        let queues: Vec<_> = queues.collect::<Result<_, _>>()?;
        Ok(queues.into_iter().map(|(_, dead)| u64::from(dead)).sum())
    }
}

const fn verdict(revival: store::RedriveOutcome) -> RedriveOutcome {
    match revival {
        store::RedriveOutcome::Waits => RedriveOutcome::Redriven,
        store::RedriveOutcome::Gone => RedriveOutcome::NotFound,
        store::RedriveOutcome::Outdated => RedriveOutcome::Superseded,
    }
}
