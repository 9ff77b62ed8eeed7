//! The order in which the steps of a contact were sent.
//!
//! A sender cannot know in which order the relay received two concurrent requests, so their steps may arrive in any
//! order. Two rules hold all the same. A step that had finished before another began is older, and is never sent after
//! that one was accepted. And the relay sends one step of a contact at a time, until it is accepted or dead-lettered;
//! so a step that arrives again after another was accepted belongs to another request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::history::{DestinationOutcome, History, Item, ItemKind, ReceivedItem};

/// What the destination has seen of a contact so far.
#[derive(Default)]
struct ContactProgress<'a> {
    steps: BTreeMap<&'a Item, StepProgress>,
    /// Number of accepted requests.
    accepted: usize,
    /// Latest start of an accepted step.
    latest_accepted_start: Option<Duration>,
}

/// What the destination has seen of a step.
#[derive(Default)]
struct StepProgress {
    /// Times it was accepted.
    accepted: usize,
    /// Number of runs: between two runs, another step was accepted.
    runs: usize,
    /// Accepted requests of other steps before its last request.
    others_accepted: usize,
    /// Whether it was accepted in an earlier run.
    accepted_in_earlier_run: bool,
}

/// Counts requests of an older step after a newer one of the same contact was accepted.
pub(super) fn count_out_of_order(history: &History) -> usize {
    let mut contacts: BTreeMap<&str, ContactProgress<'_>> = BTreeMap::new();
    let mut out_of_order = 0;
    for received in &history.received {
        let progress = contacts.entry(&received.item.contact).or_default();
        out_of_order += usize::from(progress.is_out_of_order(history, received));
    }
    out_of_order
}

impl<'a> ContactProgress<'a> {
    fn is_out_of_order(&mut self, history: &'a History, received: &'a ReceivedItem) -> bool {
        let sent_item = history.sent.get(&received.item).copied().unwrap_or_default();
        let step = self.steps.entry(&received.item).or_default();
        let others_accepted = self.accepted - step.accepted;
        if step.runs == 0 || others_accepted > step.others_accepted {
            step.runs += 1;
            step.accepted_in_earlier_run = step.accepted > 0;
        }
        step.others_accepted = others_accepted;
        let is_older = self.latest_accepted_start > Some(sent_item.finished_at);
        // Of a webhook and of an event, another request brings no other delivery where the first has arrived.
        let was_overtaken =
            step.runs > sent_item.requests || (step.accepted_in_earlier_run && received.item.kind != ItemKind::Contact);
        if received.outcome == DestinationOutcome::Accepted {
            step.accepted += 1;
            self.accepted += 1;
            self.latest_accepted_start = self.latest_accepted_start.max(Some(sent_item.started_at));
        }
        received.outcome != DestinationOutcome::Failed && (is_older || was_overtaken)
    }
}
