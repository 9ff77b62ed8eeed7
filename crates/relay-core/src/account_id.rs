//! The id of an account.

use serde::{Deserialize, Serialize};

/// Id of an account within one store: empty for the first real one, so that its deliveries have the ids and contact keys
/// of a store that knows no accounts; `simulated` for the built-in simulators; else 8 hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(String);

const SIMULATED: &str = "simulated";

impl AccountId {
    /// The built-in simulators of `relay-local`.
    pub fn simulated() -> Self {
        Self(SIMULATED.to_owned())
    }

    /// Id from a store.
    pub fn from_stored(id: String) -> Self {
        Self(id)
    }

    /// The id as text: letters and digits, at most 9 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the first real account.
    pub fn is_first(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is that of the built-in simulators.
    pub fn is_simulated(&self) -> bool {
        self.0 == SIMULATED
    }

    /// The id as listings show it; nothing for the first account, which is the usual one.
    pub fn label(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|id| !id.is_empty())
    }
}
