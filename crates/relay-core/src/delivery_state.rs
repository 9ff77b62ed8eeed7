//! The state of a delivery, as operators see it.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// State of a delivery in listings. A store may tell more states apart and shows one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray, Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// A worker will send it, or is sending it.
    Waiting,
    /// The destination has accepted it.
    Delivered,
    /// It is a dead letter: only an operator can have it sent again.
    Dead,
}

impl DeliveryState {
    /// The state as listings and JSON show it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_shown_in_lower_case() {
        let shown: Vec<&str> = DeliveryState::VARIANTS.iter().map(|state| state.as_str()).collect();
        assert_eq!(shown, ["waiting", "delivered", "dead"]);
        assert_eq!(serde_json::to_string(&DeliveryState::Dead).unwrap(), "\"dead\"");
    }

    #[test]
    fn shown_state_is_parsed() {
        for state in DeliveryState::VARIANTS {
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
        assert!("sending".parse::<DeliveryState>().is_err());
    }
}
