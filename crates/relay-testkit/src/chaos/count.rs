//! Evaluates a history.

use std::collections::{BTreeMap, BTreeSet};

use crate::chaos::history::{DeadLetter, DestinationOutcome, History, Item, ItemKind};
use crate::chaos::order;

/// Reasons of dead letters that the destination has rejected for good.
const REJECTION_REASONS: [&str; 2] = ["clay_rejected", "loops_rejected"];

/// Totals of a history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The items that were sent.
    pub sent: usize,
    /// The items that were acknowledged at least once.
    pub acknowledged: usize,
    /// Items that were neither acknowledged nor rejected by the destination, although their sender retried until its
    /// timeout.
    pub unacknowledged: usize,
    /// Items that the destination accepted at least once.
    pub delivered: usize,
    /// Items that the destination rejected for good.
    pub rejected: usize,
    /// Items that were acknowledged and never accepted, and that no dead letter or later response accounts for.
    pub lost: usize,
    /// Dead letters and rejecting responses for items that the destination never rejected.
    pub unjustified_failures: usize,
    /// Dead letters of an item beyond the number of its requests.
    pub extra_dead_letters: usize,
    /// Items that were accepted, but never sent.
    pub never_sent: usize,
    /// Repeated acceptances of an item.
    pub duplicated: usize,
    /// How often each of those items may be, all together.
    pub allowed_duplicates: usize,
    /// Repeated acceptances of an item beyond the allowed ones.
    pub unjustified_duplicates: usize,
    /// Requests of an older step after a newer one of the same contact was accepted.
    pub out_of_order: usize,
    /// Repeated acceptances of an event or an e-mail.
    pub processed_twice: usize,
    /// The requests above ten a second.
    pub rate_limit_violations: usize,
    /// The redirects that were followed.
    pub redirects_followed: usize,
    /// What still waited.
    pub waiting: usize,
    /// Whether the scenario has a fault.
    pub is_faulty: bool,
    /// Times the fault occurred.
    pub faults_hit: usize,
}

impl Totals {
    /// Counts.
    #[must_use]
    pub fn from_history(history: &History) -> Self {
        let accepted = occurrences(
            history
                .received
                .iter()
                .filter(|received| received.outcome == DestinationOutcome::Accepted)
                .map(|received| &received.item),
        );
        let rejected: BTreeSet<&Item> = history
            .received
            .iter()
            .filter(|received| received.outcome == DestinationOutcome::Rejected)
            .map(|received| &received.item)
            .collect();
        let sent_items = history.sent.values();
        let mut totals = Self {
            sent: history.sent.len(),
            acknowledged: sent_items.clone().filter(|sent_item| sent_item.acknowledged > 0).count(),
            unacknowledged: sent_items
                .filter(|sent_item| sent_item.acknowledged == 0 && sent_item.rejected == 0)
                .count(),
            delivered: accepted.len(),
            rejected: rejected.len(),
            never_sent: accepted.keys().filter(|item| !history.sent.contains_key(*item)).count(),
            out_of_order: order::count_out_of_order(history),
            rate_limit_violations: history.rate_limit_violations,
            redirects_followed: history.redirects_followed,
            waiting: history.waiting,
            is_faulty: history.is_faulty,
            faults_hit: history.faults_hit,
            ..Self::default()
        };
        totals.count_missing(history, &accepted, &rejected);
        totals.count_duplicates(history, &accepted);
        totals
    }

    fn count_missing(&mut self, history: &History, accepted: &BTreeMap<&Item, usize>, rejected: &BTreeSet<&Item>) {
        let is_justified = |dead_letter: &&DeadLetter| {
            let is_rejection = REJECTION_REASONS.contains(&dead_letter.reason.as_str()) && dead_letter.status.is_some();
            is_rejection && rejected.contains(&dead_letter.item)
        };
        let dead_lettered: BTreeSet<&Item> =
            history.dead_letters.iter().filter(is_justified).map(|dead_letter| &dead_letter.item).collect();
        for (item, sent_item) in &history.sent {
            let is_accounted_for =
                accepted.contains_key(item) || dead_lettered.contains(item) || sent_item.last_rejected;
            self.lost += usize::from(sent_item.acknowledged > 0 && !is_accounted_for);
            self.unjustified_failures += usize::from(sent_item.rejected > 0 && !rejected.contains(item));
        }
        self.unjustified_failures +=
            history.dead_letters.iter().filter(|dead_letter| !is_justified(dead_letter)).count();
        for (item, dead_letter_count) in occurrences(history.dead_letters.iter().map(|dead_letter| &dead_letter.item)) {
            let requests = history.sent.get(item).map_or(0, |sent_item| sent_item.requests);
            self.extra_dead_letters += dead_letter_count.saturating_sub(requests);
        }
    }

    fn count_duplicates(&mut self, history: &History, accepted: &BTreeMap<&Item, usize>) {
        let allowed_duplicates = occurrences(history.accepted_silently.iter().chain(&history.in_flight_at_crash));
        self.allowed_duplicates = allowed_duplicates.values().sum();
        for (item, accepted_times) in accepted {
            let sent_item = history.sent.get(item).copied().unwrap_or_default();
            let expected = match item.kind {
                ItemKind::Webhook | ItemKind::Event | ItemKind::Email => 1,
                // A sender without a response has to send an update again, which is another update.
                ItemKind::Contact => (sent_item.acknowledged + sent_item.unanswered).max(1),
            };
            let extra = accepted_times.saturating_sub(expected);
            self.duplicated += extra;
            self.unjustified_duplicates +=
                extra.saturating_sub(allowed_duplicates.get(item).copied().unwrap_or_default());
            if item.kind.has_key() {
                self.processed_twice += extra;
            }
        }
    }

    /// What must not be, each in a sentence.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let checks = [
            (self.unacknowledged, "never acknowledged"),
            (self.lost, "acknowledged and never delivered"),
            (self.unjustified_failures, "dead-lettered though the destination did not reject them"),
            (self.extra_dead_letters, "superfluous dead letters"),
            (self.never_sent, "delivered but never sent"),
            (self.unjustified_duplicates, "duplicated without need"),
            (self.processed_twice, "events or e-mails processed twice"),
            (self.out_of_order, "delivered out of order"),
            (self.redirects_followed, "sent to the target of a redirect"),
            (self.waiting, "still waiting"),
        ];
        let failed_checks = checks.into_iter().filter(|(number, _)| *number > 0);
        let mut violations: Vec<String> = failed_checks.map(|(number, what)| format!("{number} {what}")).collect();
        if self.sent == 0 || self.acknowledged == 0 {
            violations.push("nothing was sent and acknowledged, so nothing was tested".to_owned());
        }
        if self.is_faulty && self.faults_hit == 0 {
            violations.push("the fault never occurred, so nothing was tested".to_owned());
        }
        violations
    }
}

/// How often each item is among them.
fn occurrences<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeMap<&'a Item, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
