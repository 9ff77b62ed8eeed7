//! What was sent, what was acknowledged and what arrived; and what that comes to.

use std::collections::BTreeMap;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A webhook: a repeat is told by its id.
    Webhook,
    /// A contact's update: every request is an update of its own.
    Contact,
    /// An event: a repeat is told by its key.
    Event,
}

/// One of the things that are sent: a contact's step. Steps ascend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The contact's address.
    pub contact: String,
    /// Which of its steps.
    pub step: u32,
    /// What it is.
    pub kind: Kind,
}

/// What the sender of an item was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// How many requests were acknowledged.
    pub acknowledged: usize,
    /// How many requests came to no answer of the relay: what became of them, their sender cannot know.
    pub unanswered: usize,
}

/// Everything that happened in one direction.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What was sent, and what its sender was told.
    pub sent: BTreeMap<Item, Told>,
    /// What the far end has taken, in its order.
    pub taken: Vec<Item>,
    /// How many items the far end took without saying so.
    pub unsaid: usize,
    /// How many deliveries may have been under way when the relay was killed.
    pub under_way: usize,
    /// How many requests an end that was well had to refuse, because more than ten came within a second.
    pub too_many: usize,
    /// How many requests came where a redirect led.
    pub redirects_followed: usize,
    /// How many deliveries still waited when nobody waited for them any more.
    pub waiting: usize,
    /// Whether there was to be a fault.
    pub is_faulty: bool,
    /// How many requests the far end did not answer well, by its ailment, and how often the relay was struck.
    pub struck: usize,
}

/// What a history comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// The items that were sent.
    pub sent: usize,
    /// The items that were acknowledged at least once.
    pub acknowledged: usize,
    /// The items that were taken at least once.
    pub delivered: usize,
    /// The items that were acknowledged and never taken.
    pub lost: usize,
    /// How often an item was taken more than once.
    pub doubled: usize,
    /// How often that may be.
    pub may_double: usize,
    /// How often an older step was taken after a newer one of the same contact.
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
        let mut taken: BTreeMap<&Item, usize> = BTreeMap::new();
        let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
        let mut count = Self {
            sent: history.sent.len(),
            acknowledged: history.sent.values().filter(|told| told.acknowledged > 0).count(),
            may_double: history.unsaid + history.under_way,
            too_many: history.too_many,
            redirects_followed: history.redirects_followed,
            waiting: history.waiting,
            is_faulty: history.is_faulty,
            struck: history.struck,
            ..Self::default()
        };
        for item in &history.taken {
            *taken.entry(item).or_default() += 1;
            let newest = newest.entry(&item.contact).or_default();
            count.out_of_order += usize::from(item.step < *newest);
            *newest = item.step.max(*newest);
        }
        count.delivered = taken.len();
        let lost = |(item, told): &(&Item, &Told)| told.acknowledged > 0 && !taken.contains_key(*item);
        count.lost = history.sent.iter().filter(lost).count();
        for (item, times) in taken {
            let told = history.sent.get(item).copied().unwrap_or_default();
            let wanted = match item.kind {
                Kind::Webhook | Kind::Event => 1,
                // A sender who gets no answer has to send an update again: that is another one.
                Kind::Contact => (told.acknowledged + told.unanswered).max(1),
            };
            let more = times.saturating_sub(wanted);
            count.doubled += more;
            if item.kind == Kind::Event {
                count.events_twice += more;
            }
        }
        count
    }

    /// What must not be, each in a sentence.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let never = [
            (self.lost, "acknowledged and never delivered"),
            (self.events_twice, "events processed twice"),
            (self.out_of_order, "delivered out of order"),
            (self.redirects_followed, "sent where a redirect led"),
            (self.waiting, "still waiting"),
        ];
        faults.extend(never.into_iter().filter(|(many, _)| *many > 0).map(|(many, what)| format!("{many} {what}")));
        if self.doubled > self.may_double {
            faults.push(format!("{} doubled, and only {} may be", self.doubled, self.may_double));
        }
        if self.sent == 0 || self.acknowledged == 0 {
            faults.push("nothing was sent and acknowledged, so nothing was tried".to_owned());
        }
        if self.is_faulty && self.struck == 0 {
            faults.push("the fault never came, so nothing was tried".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(contact: &str, step: u32, kind: Kind) -> Item {
        Item { contact: contact.to_owned(), step, kind }
    }

    /// Three steps of a contact, acknowledged and taken in their order.
    fn well(kind: Kind) -> History {
        let items: Vec<Item> = (1..=3).map(|step| item("ada", step, kind)).collect();
        let told = Told { acknowledged: 1, unanswered: 0 };
        History { sent: items.iter().map(|item| (item.clone(), told)).collect(), taken: items, ..History::default() }
    }

    #[test]
    fn what_arrives_once_and_in_order_is_no_fault() {
        for kind in [Kind::Webhook, Kind::Contact, Kind::Event] {
            let count = Count::of(&well(kind));
            assert_eq!((count.sent, count.acknowledged, count.delivered), (3, 3, 3));
            assert!(count.faults().is_empty(), "{:?}", count.faults());
        }
    }

    #[test]
    fn what_was_acknowledged_and_never_arrived_is_lost() {
        let mut history = well(Kind::Webhook);
        history.taken.remove(1);
        let count = Count::of(&history);
        assert_eq!((count.lost, count.delivered), (1, 2));
        assert_eq!(count.faults(), ["1 acknowledged and never delivered"]);
    }

    #[test]
    fn what_was_never_acknowledged_may_be_missing_or_there() {
        let mut history = well(Kind::Webhook);
        let last = item("ada", 3, Kind::Webhook);
        history.sent.insert(last, Told { acknowledged: 0, unanswered: 1 });
        assert!(Count::of(&history).faults().is_empty());
        history.taken.pop();
        assert!(Count::of(&history).faults().is_empty());
    }

    #[test]
    fn what_arrives_twice_is_doubled_unless_the_end_did_not_say_that_it_had_it() {
        for kind in [Kind::Webhook, Kind::Contact] {
            let mut history = well(kind);
            history.taken.push(item("ada", 3, kind));
            assert_eq!(Count::of(&history).faults(), ["1 doubled, and only 0 may be"]);
            history.unsaid = 1;
            assert_eq!((Count::of(&history).doubled, Count::of(&history).faults().len()), (1, 0));
            history.taken.push(item("ada", 3, kind));
            assert_eq!(Count::of(&history).faults(), ["2 doubled, and only 1 may be"]);
        }
    }

    #[test]
    fn an_event_is_never_processed_twice() {
        let mut history = well(Kind::Event);
        history.taken.push(item("ada", 3, Kind::Event));
        history.unsaid = 1;
        assert_eq!(Count::of(&history).faults(), ["1 events processed twice"]);
    }

    #[test]
    fn an_update_that_was_sent_again_for_want_of_an_answer_is_another_one() {
        let mut history = well(Kind::Contact);
        history.taken.push(item("ada", 3, Kind::Contact));
        history.sent.insert(item("ada", 3, Kind::Contact), Told { acknowledged: 1, unanswered: 1 });
        assert!(Count::of(&history).faults().is_empty());
    }

    #[test]
    fn an_older_step_after_a_newer_one_is_out_of_order_also_when_it_comes_again() {
        let mut history = well(Kind::Contact);
        history.taken.swap(0, 1);
        assert_eq!(Count::of(&history).faults(), ["1 delivered out of order"]);
        let mut history = well(Kind::Contact);
        history.taken.push(item("ada", 1, Kind::Contact));
        history.unsaid = 1;
        assert_eq!(Count::of(&history).faults(), ["1 delivered out of order"]);
    }

    #[test]
    fn the_steps_of_two_contacts_have_no_order() {
        let mut history = well(Kind::Contact);
        history.taken.push(item("bob", 1, Kind::Contact));
        history.sent.insert(item("bob", 1, Kind::Contact), Told { acknowledged: 1, unanswered: 0 });
        assert!(Count::of(&history).faults().is_empty());
    }

    #[test]
    fn a_history_of_nothing_proves_nothing() {
        assert_eq!(Count::of(&History::default()).faults().len(), 1);
        let mut history = History { is_faulty: true, ..well(Kind::Webhook) };
        assert_eq!(Count::of(&history).faults(), ["the fault never came, so nothing was tried"]);
        history.struck = 1;
        assert!(Count::of(&history).faults().is_empty());
    }

    #[test]
    fn what_waits_for_ever_and_what_follows_a_redirect_is_a_fault() {
        let history = History { waiting: 2, redirects_followed: 1, ..well(Kind::Contact) };
        assert_eq!(Count::of(&history).faults(), ["1 sent where a redirect led", "2 still waiting"]);
    }
}
