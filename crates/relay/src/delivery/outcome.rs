//! What a far end's answer is called when it did not deliver.

use jiff::Timestamp;
use relay_core::delivery::{Delivery, Disposition, History, Reason, ReasonCode};
use relay_core::policy::response::{self, Lane, Outcome};
use relay_core::policy::retry;
use tokio::time::Instant;

use crate::rate_limit::limiter::{LeftAlone, Pace};
use crate::telemetry::event::{Became, Signal, Tally};

/// The reason that an outcome is, in a lane.
pub(crate) fn reason_of(lane: Lane, outcome: Outcome) -> Reason {
    let status = match outcome {
        Outcome::Answered(status) => Some(status),
        Outcome::TimedOut | Outcome::Unreachable | Outcome::CertificateUntrusted => None,
    };
    Reason { code: response::reason_code(lane, outcome), status }
}

/// What becomes of a delivery whose far end is left alone: it comes back when that is over.
pub(crate) fn later_because(left_alone: LeftAlone, now: Timestamp) -> Disposition {
    let (left, code, firm) = match left_alone {
        LeftAlone::Full(left) => (left, ReasonCode::FarEndFull, true),
        LeftAlone::Down(left) => (left, ReasonCode::FarEndFailed, false),
    };
    Disposition::TryLater { at: retry::after(now, left), reason: Reason::own(code), firm }
}

/// The same, at a firm time where the far end has taken others since this one first failed: then it is not the end that
/// fails, and that others get through says nothing of this one.
pub(crate) fn firm_if_alone(end: Disposition, history: History, pace: &impl Pace, now: Timestamp) -> Disposition {
    let failing_for = history.failing_since.map(|since| now.duration_since(since).try_into().unwrap_or_default());
    match end {
        Disposition::TryLater { at, reason, firm } => {
            let alone = failing_for.is_some_and(|period| pace.took_within(period));
            Disposition::TryLater { at, reason, firm: firm || alone }
        }
        other => other,
    }
}

/// Tells how a worker's attempt ended.
pub(crate) fn tell(
    delivery: &Delivery,
    history: History,
    end: Disposition,
    begun: Instant,
    tally: Tally,
    now: Timestamp,
) {
    let (became, reason) = match end {
        Disposition::Delivered if tally.duplicate => (Became::Duplicate, None),
        Disposition::Delivered => (Became::Delivered, None),
        Disposition::Dead(reason) => (Became::Dead, Some(reason)),
        Disposition::TryLater { reason, .. } => (Became::Retried, Some(reason)),
        Disposition::Hold { reason, .. } => (Became::Held, Some(reason)),
    };
    let age = now.duration_since(delivery.received_at).try_into().ok();
    let attempts = history.attempts.saturating_add(1);
    Signal { reason, attempts, took: begun.elapsed(), age, tally, ..Signal::of_work(delivery, became) }.tell();
}
