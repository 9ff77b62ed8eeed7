//! What a console shows of a direction beside its queues.

use relay_core::account::DestinationKind;

/// What is read of one relay beside its queues.
#[derive(Debug)]
pub(super) struct DirectionFacts {
    pub(super) destination: DestinationKind,
    pub(super) accepted: Option<u64>,
    pub(super) delivered: Option<u64>,
    pub(super) oldest_seconds: Option<f64>,
    pub(super) per_second: Option<f64>,
    pub(super) rate_limit: u32,
}
