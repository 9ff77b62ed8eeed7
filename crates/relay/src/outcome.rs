//! What a far end's answer is called when it did not deliver.

use jiff::Timestamp;
use relay_core::backoff;
use relay_core::decision::{self, Lane, Outcome};
use relay_core::delivery::{Disposition, Reason, ReasonCode};

use crate::pace::LeftAlone;

/// The reason that an outcome is, in a lane.
pub(crate) fn reason_of(lane: Lane, outcome: Outcome) -> Reason {
    let status = match outcome {
        Outcome::Answered(status) => Some(status),
        Outcome::TimedOut | Outcome::Unreachable | Outcome::CertificateUntrusted => None,
    };
    Reason { code: decision::reason_code(lane, outcome), status }
}

/// What becomes of a delivery whose far end is left alone: it comes back when that is over.
pub(crate) fn later_because(left_alone: LeftAlone, now: Timestamp) -> Disposition {
    let (left, code) = match left_alone {
        LeftAlone::Full(left) => (left, ReasonCode::FarEndFull),
        LeftAlone::Down(left) => (left, ReasonCode::FarEndFailed),
    };
    Disposition::TryLater { at: backoff::after(now, left), reason: Reason::own(code) }
}
