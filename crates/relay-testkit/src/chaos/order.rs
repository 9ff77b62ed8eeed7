//! The order in which the steps of a contact went out.
//!
//! A sender does not know in which order the relay got two requests that were under way at the same time, so their steps
//! may come in any order. Two things hold all the same. What was over when another step was begun is older, and never
//! goes out after that one was taken. And one step at a time goes out: until it is taken or given up, no other of its
//! contact passes it; so where one comes again after another was taken, it comes by another request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::history::{Came, History, Item, Kind, Outcome};

/// What the far end has seen of a contact so far.
#[derive(Default)]
struct Seen<'a> {
    steps: BTreeMap<&'a Item, Step>,
    /// How many requests were taken.
    taken: usize,
    /// The latest beginning of a step that was taken.
    newest_begun: Option<Duration>,
}

/// What it has seen of a step.
#[derive(Default)]
struct Step {
    /// How often it was taken.
    taken: usize,
    /// In how many goes it came: between two of them, another step was taken.
    goes: usize,
    /// How many requests of other steps were taken before it came last.
    others: usize,
    /// Whether it was taken in a go that is over.
    was_taken: bool,
}

/// How often an older step went out after a newer one of the same contact was taken.
pub(super) fn out_of_order(history: &History) -> usize {
    let mut contacts: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    let mut out_of_order = 0;
    for came in &history.came {
        let seen = contacts.entry(&came.item.contact).or_default();
        out_of_order += usize::from(seen.is_out_of_order(history, came));
    }
    out_of_order
}

impl<'a> Seen<'a> {
    fn is_out_of_order(&mut self, history: &'a History, came: &'a Came) -> bool {
        let told = history.sent.get(&came.item).copied().unwrap_or_default();
        let step = self.steps.entry(&came.item).or_default();
        let others = self.taken - step.taken;
        if step.goes == 0 || others > step.others {
            step.goes += 1;
            step.was_taken = step.taken > 0;
        }
        step.others = others;
        let is_older = self.newest_begun > Some(told.over);
        // Of a webhook and of an event, another request brings no other delivery where the first has arrived.
        let was_passed = step.goes > told.requests || (step.was_taken && came.item.kind != Kind::Contact);
        if came.outcome == Outcome::Taken {
            step.taken += 1;
            self.taken += 1;
            self.newest_begun = self.newest_begun.max(Some(told.begun));
        }
        came.outcome != Outcome::Failed && (is_older || was_passed)
    }
}
