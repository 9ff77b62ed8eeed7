//! What a far end's answer is called when it did not deliver.

use relay_core::decision::{self, Lane, Outcome};
use relay_core::delivery::Reason;

/// The reason that an outcome is, in a lane.
pub(crate) fn reason_of(lane: Lane, outcome: Outcome) -> Reason {
    let status = match outcome {
        Outcome::Answered(status) => Some(status),
        Outcome::TimedOut | Outcome::Unreachable | Outcome::CertificateUntrusted => None,
    };
    Reason { code: decision::reason_code(lane, outcome), status }
}
