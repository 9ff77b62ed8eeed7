//! The dead letters of a data folder.

use jiff::Timestamp;
use relay_sqlite::data_dir::DataFolder;
use relay_sqlite::store::{self, DeliveryState, Revival, Search};
use rusqlite::Connection;

use crate::error::Fault;
use crate::operations::letter_box::{Letter, LetterBox, Verdict};
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
    pub fn open(folder: &DataFolder) -> Result<Self, Fault> {
        Ok(Self { connection: open(folder)?, read: false })
    }
}

impl LetterBox for LocalLetters {
    /// All of them at once.
    async fn read(&mut self) -> Result<Vec<Letter>, Fault> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(Vec::new());
        }
        let dead = Search { state: Some(DeliveryState::Dead), ..Search::default() };
        let letters = store::search(&self.connection, &dead)?.into_iter().map(|found| Letter {
            key: found.delivery.id.as_str().to_owned(),
            receipt: None,
            unread: None,
            direction: found.delivery.cargo.direction(),
            bytes: found.delivery.body.len(),
            reason: found.reason,
            status: found.status,
            attempts: Some(found.attempts),
            died_at: found.settled_at,
            delivery: Some(found.delivery),
        });
        Ok(letters.collect())
    }

    async fn judge(&self, letter: &Letter, even_if_older: bool) -> Result<Verdict, Fault> {
        Ok(verdict(store::judge(&self.connection, &letter.key, even_if_older)?))
    }

    async fn retry(&mut self, letter: &Letter, even_if_older: bool) -> Result<Verdict, Fault> {
        Ok(verdict(store::revive(&mut self.connection, &letter.key, even_if_older, Timestamp::now())?))
    }

    async fn discard(&mut self, letter: &Letter) -> Result<bool, Fault> {
        Ok(store::discard(&mut self.connection, &letter.key)?)
    }

    /// Nobody is kept away from them.
    async fn give_back(&mut self) {
        self.read = false;
    }

    async fn count(&self) -> Result<u64, Fault> {
        let queues = super::DIRECTIONS.into_iter().map(|direction| store::queue_of(&self.connection, direction));
        let queues: Vec<_> = queues.collect::<Result<_, _>>()?;
        Ok(queues.into_iter().map(|(_, dead)| u64::from(dead)).sum())
    }
}

const fn verdict(revival: Revival) -> Verdict {
    match revival {
        Revival::Waits => Verdict::Sent,
        Revival::Gone => Verdict::Gone,
        Revival::Outdated => Verdict::Outdated,
    }
}
