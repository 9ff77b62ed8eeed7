//! One attempt at a delivery: what came before it, and its result.

use jiff::Timestamp;

use super::reason::Reason;

/// Result of an attempt at a delivery: it says what the queue does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// The destination has accepted it.
    Delivered,
    /// The destination will never accept it: it becomes a dead letter.
    DeadLetter(Reason),
    /// A worker retries it at this time.
    RetryAt {
        /// Time of the next attempt.
        at: Timestamp,
        /// Why this attempt failed.
        reason: Reason,
        /// Whether it is never retried earlier. Otherwise it may be, when another delivery shows that the destination is back.
        no_early_retry: bool,
    },
    /// It waits until an operator fixes the cause. A worker retries it at this time, or once the cause has changed.
    HoldUntil {
        /// Time of the next attempt.
        at: Timestamp,
        /// What the operator has to fix.
        reason: Reason,
    },
}

/// Earlier attempts of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttemptHistory {
    /// Number of attempts that were begun before this one.
    pub attempts: u32,
    /// Time since when every attempt has failed for a reason that should pass by itself.
    pub failing_since: Option<Timestamp>,
    /// Time since when it is held.
    pub held_since: Option<Timestamp>,
    /// When the first attempt began of which it is not known whether the destination has processed it. Only events have
    /// one: their key protects them for a day.
    pub unknown_since: Option<Timestamp>,
}

/// An attempt that has ended, as a store records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedAttempt {
    /// What the queue does next.
    pub result: AttemptResult,
    /// [`AttemptHistory::unknown_since`] for the next attempt.
    pub unknown_since: Option<Timestamp>,
    /// Whether the destination said that it had accepted it before.
    pub duplicate: bool,
    /// What the destination said to its refusal, without the contact's address and id.
    pub message: Option<String>,
}

impl FinishedAttempt {
    /// An attempt that began then. `outcome_unknown`: whether the destination may have processed an event without saying so.
    pub fn new(result: AttemptResult, history: AttemptHistory, began_at: Timestamp, outcome_unknown: bool) -> Self {
        let unknown_since = history.unknown_since.or(outcome_unknown.then_some(began_at));
        Self { unknown_since: unknown_since.filter(|_| result != AttemptResult::Delivered), ..result.into() }
    }
}

impl From<AttemptResult> for FinishedAttempt {
    /// An attempt at something that is not an event.
    fn from(result: AttemptResult) -> Self {
        Self { result, unknown_since: None, duplicate: false, message: None }
    }
}
