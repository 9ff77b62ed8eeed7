//! What is sent, and in which direction.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr};

use crate::idempotency::IdempotencyKey;

/// Direction of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, EnumString, IntoStaticStr, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Direction {
    /// Webhooks to Clay tables.
    LoopsToClay,
    /// Rows to the Loops API.
    ClayToLoops,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::LoopsToClay, Self::ClayToLoops];

    /// The direction as stores and listings show it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Kind of a delivery, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
pub enum DeliveryKind {
    /// A Loops event for the webhooks of a route.
    #[strum(serialize = "row")]
    ClayRow {
        /// Name of the route.
        route: String,
        /// The event's `webhook-id`.
        webhook_id: String,
    },
    /// A contact for Loops to create or update.
    #[strum(serialize = "contact")]
    LoopsContact,
    /// An event for Loops to process once.
    #[strum(serialize = "event")]
    LoopsEvent {
        /// The key that every attempt carries.
        key: IdempotencyKey,
    },
    /// A contact for Loops to create.
    #[strum(serialize = "create")]
    LoopsCreate,
    /// A contact for Loops to delete.
    #[strum(serialize = "delete")]
    LoopsDelete,
    /// A transactional e-mail for Loops to send once.
    #[strum(serialize = "email")]
    LoopsEmail {
        /// The key that every attempt carries.
        key: IdempotencyKey,
    },
}

impl DeliveryKind {
    /// The kind as stores, logs and listings show it.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// Direction of the kind.
    pub const fn direction(&self) -> Direction {
        match self {
            Self::ClayRow { .. } => Direction::LoopsToClay,
            Self::LoopsContact
            | Self::LoopsEvent { .. }
            | Self::LoopsCreate
            | Self::LoopsDelete
            | Self::LoopsEmail { .. } => Direction::ClayToLoops,
        }
    }

    /// The key under which Loops processes it once. Nothing for what may be processed again.
    pub const fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        match self {
            Self::LoopsEvent { key } | Self::LoopsEmail { key } => Some(key),
            Self::ClayRow { .. } | Self::LoopsContact | Self::LoopsCreate | Self::LoopsDelete => None,
        }
    }

    /// The same kind with another key, if it has one.
    pub(super) fn with_key(&self, key: IdempotencyKey) -> Self {
        match self {
            Self::LoopsEvent { .. } => Self::LoopsEvent { key },
            Self::LoopsEmail { .. } => Self::LoopsEmail { key },
            Self::ClayRow { .. } | Self::LoopsContact | Self::LoopsCreate | Self::LoopsDelete => self.clone(),
        }
    }
}
