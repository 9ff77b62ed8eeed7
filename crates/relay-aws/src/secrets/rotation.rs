//! A secret that was found changed: a person may have mended what deliveries are held for.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::delivery::Direction;

use crate::ledger::deliveries::Ledger;
use crate::ledger::table::{Update, string_attr};
use crate::sqs::early_release::operator_key;

/// A secret for whose change deliveries may wait.
pub trait Unblocks {
    /// The direction that it is for.
    const DIRECTION: Direction;

    /// Where the deliveries are parked that may go on when it has changed.
    fn held_keys(&self) -> Vec<String>;
}

impl Unblocks for LoopsToClaySecret {
    const DIRECTION: Direction = Direction::LoopsToClay;

    fn held_keys(&self) -> Vec<String> {
        self.routes.iter().map(|route| operator_key(Self::DIRECTION, Some(&route.name))).collect()
    }
}

impl Unblocks for ClayToLoopsSecret {
    const DIRECTION: Direction = Direction::ClayToLoops;

    fn held_keys(&self) -> Vec<String> {
        vec![operator_key(Self::DIRECTION, None)]
    }
}

/// A version of a secret that this process has not had before.
#[derive(Debug, Clone)]
pub struct SecretRotation {
    /// The direction of the secret.
    pub direction: Direction,
    /// The version's id in Secrets Manager.
    pub version: String,
    /// Where deliveries are parked that may go on.
    pub places: Vec<String>,
}

/// What who reads the secret leaves for who knows what is parked.
#[derive(Debug, Clone, Default)]
pub struct RotationSlot(Arc<Mutex<Option<SecretRotation>>>);

impl RotationSlot {
    /// Leaves a version, in place of one that nobody has taken yet.
    pub fn put(&self, version: SecretRotation) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }

    /// Takes it, once.
    #[must_use]
    pub fn take(&self) -> Option<SecretRotation> {
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
    pub async fn record_secret_version(
        &self,
        direction: Direction,
        version: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = "SET version_before = if_not_exists(secret_version, :version), secret_version = :version";
        let change = Update::new(update)
            .condition("attribute_not_exists(secret_version) OR secret_version <> :version")
            .string_attr(":version", version);
        let noted = self.table().update(&format!("secret#{}", direction.as_str()), change, now).await?;
        Ok(noted.is_some_and(|noted| string_attr(&noted, "version_before").is_some_and(|before| before != version)))
    }
}
