//! The order in which the steps of a contact went out.
//!
//! A sender does not know in which order the relay got two requests that were under way at the same time, so their steps
//! may come in any order. Two things hold all the same. What was over when another step was begun is older, and never
//! goes out after that one was taken. And one step at a time goes out: until it is taken or given up, no other of its
//! contact passes it; so where one comes again after another was taken, it comes by another request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::history::{DestinationOutcome, History, Item, ItemKind, ReceivedItem};

/// What the far end has seen of a contact so far.
#[derive(Default)]
struct ContactProgress<'a> {
    steps: BTreeMap<&'a Item, StepProgress>,
    /// How many requests were taken.
    accepted: usize,
    /// The latest beginning of a step that was taken.
    latest_accepted_start: Option<Duration>,
}

/// What it has seen of a step.
#[derive(Default)]
struct StepProgress {
    /// How often it was taken.
    accepted: usize,
    /// In how many goes it came: between two of them, another step was taken.
    runs: usize,
    /// How many requests of other steps were taken before it came last.
    others_accepted: usize,
    /// Whether it was taken in a go that is over.
    accepted_in_earlier_run: bool,
}

/// How often an older step went out after a newer one of the same contact was taken.
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
