//! What a history comes to.

use std::collections::{BTreeMap, BTreeSet};

use crate::chaos::history::{DeadLetter, History, Item, Kind, Outcome};
use crate::chaos::order;

/// The reasons of a dead letter that the far end has refused for good.
const REFUSED: [&str; 2] = ["clay_rejected", "loops_rejected"];

/// What a history comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// The items that were sent.
    pub sent: usize,
    /// The items that were acknowledged at least once.
    pub acknowledged: usize,
    /// The items that were never acknowledged, nor refused by the far end, though their sender went on for long.
    pub unheard: usize,
    /// The items that were taken at least once.
    pub delivered: usize,
    /// The items that the far end refused for good.
    pub refused: usize,
    /// The items that were acknowledged and never taken, and of which no dead letter, nor a later answer, tells why.
    pub lost: usize,
    /// The dead letters, and answers of a refusal, of what the far end never refused.
    pub given_up: usize,
    /// How many more dead letters of an item there are than there were requests.
    pub buried_twice: usize,
    /// The items that were taken, and that nobody sent.
    pub unsent: usize,
    /// How often an item was taken more than once.
    pub doubled: usize,
    /// How often each of those items may be, all together.
    pub may_double: usize,
    /// How often an item was taken more than once, and more often than that one may be.
    pub doubled_unduly: usize,
    /// How often an older step went out after a newer one of the same contact was taken.
    pub out_of_order: usize,
    /// How often an event was taken more than once.
    pub events_twice: usize,
    /// The requests above ten a second.
    pub too_many: usize,
    /// The redirects that were followed.
    pub redirects_followed: usize,
    /// What still waited.
    pub waiting: usize,
    /// Whether there was to be a fault.
    pub is_faulty: bool,
    /// How often the fault was met.
    pub struck: usize,
}

impl Count {
    /// Counts.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let taken = times(history.came.iter().filter(|came| came.outcome == Outcome::Taken).map(|came| &came.item));
        let refused: BTreeSet<&Item> =
            history.came.iter().filter(|came| came.outcome == Outcome::Refused).map(|came| &came.item).collect();
        let told = history.sent.values();
        let mut count = Self {
            sent: history.sent.len(),
            acknowledged: told.clone().filter(|told| told.acknowledged > 0).count(),
            unheard: told.filter(|told| told.acknowledged == 0 && told.refused == 0).count(),
            delivered: taken.len(),
            refused: refused.len(),
            unsent: taken.keys().filter(|item| !history.sent.contains_key(*item)).count(),
            out_of_order: order::out_of_order(history),
            too_many: history.too_many,
            redirects_followed: history.redirects_followed,
            waiting: history.waiting,
            is_faulty: history.is_faulty,
            struck: history.struck,
            ..Self::default()
        };
        count.see_what_is_missing(history, &taken, &refused);
        count.see_what_is_doubled(history, &taken);
        count
    }

    fn see_what_is_missing(&mut self, history: &History, taken: &BTreeMap<&Item, usize>, refused: &BTreeSet<&Item>) {
        let is_due = |letter: &&DeadLetter| {
            let is_refusal = REFUSED.contains(&letter.reason.as_str()) && letter.status.is_some();
            is_refusal && refused.contains(&letter.item)
        };
        let dead: BTreeSet<&Item> = history.dead_letters.iter().filter(is_due).map(|letter| &letter.item).collect();
        for (item, told) in &history.sent {
            let is_accounted_for = taken.contains_key(item) || dead.contains(item) || told.refused_at_last;
            self.lost += usize::from(told.acknowledged > 0 && !is_accounted_for);
            self.given_up += usize::from(told.refused > 0 && !refused.contains(item));
        }
        self.given_up += history.dead_letters.iter().filter(|letter| !is_due(letter)).count();
        for (item, letters) in times(history.dead_letters.iter().map(|letter| &letter.item)) {
            let requests = history.sent.get(item).map_or(0, |told| told.requests);
            self.buried_twice += letters.saturating_sub(requests);
        }
    }

    fn see_what_is_doubled(&mut self, history: &History, taken: &BTreeMap<&Item, usize>) {
        let may_double = times(history.unsaid.iter().chain(&history.under_way));
        self.may_double = may_double.values().sum();
        for (item, times) in taken {
            let told = history.sent.get(item).copied().unwrap_or_default();
            let wanted = match item.kind {
                Kind::Webhook | Kind::Event => 1,
                // A sender who gets no answer has to send an update again: that is another one.
                Kind::Contact => (told.acknowledged + told.unanswered).max(1),
            };
            let more = times.saturating_sub(wanted);
            self.doubled += more;
            self.doubled_unduly += more.saturating_sub(may_double.get(item).copied().unwrap_or_default());
            if item.kind == Kind::Event {
                self.events_twice += more;
            }
        }
    }

    /// What must not be, each in a sentence.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let never = [
            (self.unheard, "never acknowledged"),
            (self.lost, "acknowledged and never delivered"),
            (self.given_up, "given up though the end did not refuse them"),
            (self.buried_twice, "dead letters too many"),
            (self.unsent, "delivered that nobody sent"),
            (self.doubled_unduly, "doubled without need"),
            (self.events_twice, "events processed twice"),
            (self.out_of_order, "delivered out of order"),
            (self.redirects_followed, "sent where a redirect led"),
            (self.waiting, "still waiting"),
        ];
        let never = never.into_iter().filter(|(many, _)| *many > 0);
        let mut faults: Vec<String> = never.map(|(many, what)| format!("{many} {what}")).collect();
        if self.sent == 0 || self.acknowledged == 0 {
            faults.push("nothing was sent and acknowledged, so nothing was tried".to_owned());
        }
        if self.is_faulty && self.struck == 0 {
            faults.push("the fault never came, so nothing was tried".to_owned());
        }
        faults
    }
}

/// How often each item is among them.
fn times<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeMap<&'a Item, usize> {
    let mut times = BTreeMap::new();
    for item in items {
        *times.entry(item).or_default() += 1;
    }
    times
}

#[cfg(test)]
mod tests;
