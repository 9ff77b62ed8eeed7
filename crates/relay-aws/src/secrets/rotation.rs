//! A secret that was found changed: a person may have mended what deliveries are held for.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use relay::ports::queue::StoreFault;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::delivery::Direction;

use crate::ledger::deliveries::Ledger;
use crate::ledger::table::{Change, text};
use crate::sqs::early_release::person_place;

/// A secret for whose change deliveries may wait.
pub trait Mends {
    /// The direction that it is for.
    const DIRECTION: Direction;

    /// Where the deliveries are parked that may go on when it has changed.
    fn places(&self) -> Vec<String>;
}

impl Mends for LoopsToClaySecret {
    const DIRECTION: Direction = Direction::LoopsToClay;

    fn places(&self) -> Vec<String> {
        self.routes.iter().map(|route| person_place(Self::DIRECTION, Some(&route.name))).collect()
    }
}

impl Mends for ClayToLoopsSecret {
    const DIRECTION: Direction = Direction::ClayToLoops;

    fn places(&self) -> Vec<String> {
        vec![person_place(Self::DIRECTION, None)]
    }
}

/// A version of a secret that this process has not had before.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The direction of the secret.
    pub direction: Direction,
    /// The version's id in Secrets Manager.
    pub version: String,
    /// Where deliveries are parked that may go on.
    pub places: Vec<String>,
}

/// What who reads the secret leaves for who knows what is parked.
#[derive(Debug, Clone, Default)]
pub struct Mended(Arc<Mutex<Option<NewVersion>>>);

impl Mended {
    /// Leaves a version, in place of one that nobody has taken yet.
    pub fn leave(&self, version: NewVersion) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }

    /// Takes it, once.
    #[must_use]
    pub fn take(&self) -> Option<NewVersion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Ledger {
    /// Notes which version of a secret the workers use; true where they used another before. A sandbox that begins with a
    /// version that others have used long since has nothing to free, nor has the first of a stack: each try counts, and a
    /// delivery has only so many.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn uses_another(&self, direction: Direction, version: &str, now: Timestamp) -> Result<bool, StoreFault> {
        let update = "SET version_before = if_not_exists(secret_version, :version), secret_version = :version";
        let change = Change::new(update)
            .only_if("attribute_not_exists(secret_version) OR secret_version <> :version")
            .text(":version", version);
        let noted = self.table().change(&format!("secret#{}", direction.as_str()), change, now).await?;
        Ok(noted.is_some_and(|noted| text(&noted, "version_before").is_some_and(|before| before != version)))
    }
}
