//! What is a fault, and what is none.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::chaos::history::{Came, Told};

fn item(step: u32, kind: Kind) -> Item {
    Item { contact: "ada".to_owned(), step, kind }
}

fn came(step: u32, kind: Kind, outcome: Outcome) -> Came {
    Came { item: item(step, kind), outcome, at: Timestamp::UNIX_EPOCH }
}

fn taken(step: u32, kind: Kind) -> Came {
    came(step, kind, Outcome::Taken)
}

/// One request, acknowledged; from and to so many seconds after the beginning.
fn told(begun: u64, over: u64) -> Told {
    let (begun, over) = (Duration::from_secs(begun), Duration::from_secs(over));
    Told { requests: 1, acknowledged: 1, begun, over, ..Told::default() }
}

/// Three steps of a contact, one sent after the other, acknowledged and taken in their order.
fn well(kind: Kind) -> History {
    let sent = (1..=3).map(|step| (item(step, kind), told(u64::from(step) * 10, u64::from(step) * 10 + 5)));
    History { sent: sent.collect(), came: (1..=3).map(|step| taken(step, kind)).collect(), ..History::default() }
}

/// Two steps, the newer of which is sent while the older is unanswered; and what comes of them.
fn overlapping(kind: Kind, came: Vec<Came>) -> History {
    History { sent: [(item(1, kind), told(10, 20)), (item(2, kind), told(15, 25))].into(), came, ..History::default() }
}

fn letter(step: u32, reason: &str) -> DeadLetter {
    DeadLetter { item: item(step, Kind::Contact), reason: reason.to_owned(), status: Some(422) }
}

/// The second of three steps is refused, and the relay keeps it.
fn refused() -> History {
    let mut history = well(Kind::Contact);
    history.came[1].outcome = Outcome::Refused;
    history.dead_letters.push(letter(2, "loops_rejected"));
    history
}

#[track_caller]
fn assert_faults(history: &History, faults: &[&str]) {
    assert_eq!(Count::of(history).faults(), faults);
}

#[test]
fn what_arrives_once_and_in_order_is_no_fault() {
    for kind in [Kind::Webhook, Kind::Contact, Kind::Event] {
        let count = Count::of(&well(kind));
        assert_eq!((count.sent, count.acknowledged, count.delivered), (3, 3, 3));
        assert_faults(&well(kind), &[]);
    }
}

#[test]
fn what_was_acknowledged_and_never_arrived_is_lost() {
    let mut history = well(Kind::Webhook);
    history.came.remove(1);
    assert_faults(&history, &["1 acknowledged and never delivered"]);
}

#[test]
fn what_was_never_acknowledged_is_a_fault_whether_it_is_there_or_not() {
    let mut history = well(Kind::Webhook);
    let unheard = Told { acknowledged: 0, unanswered: 1, ..told(30, 35) };
    history.sent.insert(item(3, Kind::Webhook), unheard);
    assert_faults(&history, &["1 never acknowledged"]);
    history.came.pop();
    assert_faults(&history, &["1 never acknowledged"]);
}

#[test]
fn what_arrives_and_was_never_sent_is_a_fault() {
    let mut history = well(Kind::Webhook);
    history.sent.remove(&item(3, Kind::Webhook));
    assert_eq!(Count::of(&history).unsent, 1);
    assert!(Count::of(&history).faults().contains(&"1 delivered that nobody sent".to_owned()));
}

#[test]
fn what_the_end_refused_is_not_lost_where_a_dead_letter_says_so() {
    assert_faults(&refused(), &[]);
    let mut history = refused();
    history.dead_letters.clear();
    assert_faults(&history, &["1 acknowledged and never delivered"]);
    // Of another step, or for another reason.
    history.dead_letters.push(letter(3, "loops_rejected"));
    let lost_and_given_up = ["1 acknowledged and never delivered", "1 given up though the end did not refuse them"];
    assert_faults(&history, &lost_and_given_up);
    history.dead_letters = vec![letter(2, "timed_out")];
    assert_faults(&history, &lost_and_given_up);
}

#[test]
fn what_the_end_refused_is_not_lost_where_the_last_answer_says_so() {
    let mut history = refused();
    history.dead_letters.clear();
    let refused = Told { requests: 2, refused: 1, refused_at_last: true, ..told(20, 25) };
    history.sent.insert(item(2, Kind::Contact), refused);
    assert_faults(&history, &[]);
    history.sent.insert(item(2, Kind::Contact), Told { refused_at_last: false, ..refused });
    assert_faults(&history, &["1 acknowledged and never delivered"]);
}

#[test]
fn what_the_end_took_is_neither_buried_nor_answered_as_refused() {
    let mut history = well(Kind::Contact);
    history.dead_letters.push(letter(2, "loops_rejected"));
    assert_faults(&history, &["1 given up though the end did not refuse them"]);
    let mut history = well(Kind::Contact);
    history.sent.insert(item(2, Kind::Contact), Told { requests: 2, refused: 1, ..told(20, 25) });
    assert_faults(&history, &["1 given up though the end did not refuse them"]);
}

#[test]
fn an_item_has_no_more_dead_letters_than_requests() {
    let mut history = refused();
    history.dead_letters.push(letter(2, "loops_rejected"));
    assert_faults(&history, &["1 dead letters too many"]);
    history.sent.insert(item(2, Kind::Contact), Told { requests: 2, acknowledged: 2, ..told(20, 25) });
    assert_faults(&history, &[]);
}

#[test]
fn what_arrives_twice_is_doubled_unless_the_end_did_not_say_that_it_had_that_very_item() {
    for kind in [Kind::Webhook, Kind::Contact] {
        let mut history = well(kind);
        history.came.push(taken(3, kind));
        assert_faults(&history, &["1 doubled without need"]);
        history.unsaid.push(item(2, kind));
        assert_faults(&history, &["1 doubled without need"]);
        history.unsaid.push(item(3, kind));
        assert_eq!((Count::of(&history).doubled, Count::of(&history).may_double), (1, 2));
        assert_faults(&history, &[]);
        history.came.push(taken(3, kind));
        assert_faults(&history, &["1 doubled without need"]);
    }
}

#[test]
fn what_was_under_way_at_a_kill_may_come_once_more_for_each_kill() {
    let mut history = well(Kind::Webhook);
    history.came.extend([taken(3, Kind::Webhook), taken(3, Kind::Webhook)]);
    history.under_way.extend([item(1, Kind::Webhook), item(3, Kind::Webhook)]);
    assert_faults(&history, &["1 doubled without need"]);
    history.under_way.push(item(3, Kind::Webhook));
    assert_faults(&history, &[]);
}

#[test]
fn an_event_is_never_processed_twice() {
    let mut history = well(Kind::Event);
    history.came.push(taken(3, Kind::Event));
    history.unsaid.push(item(3, Kind::Event));
    assert_faults(&history, &["1 events processed twice"]);
}

#[test]
fn an_update_that_was_sent_again_for_want_of_an_answer_is_another_one() {
    let mut history = well(Kind::Contact);
    history.came.push(taken(3, Kind::Contact));
    history.sent.insert(item(3, Kind::Contact), Told { requests: 2, unanswered: 1, ..told(30, 35) });
    assert_faults(&history, &[]);
}

#[test]
fn an_older_step_after_a_newer_one_is_out_of_order_also_when_it_comes_again() {
    let mut history = well(Kind::Contact);
    history.came.swap(0, 1);
    assert_faults(&history, &["1 delivered out of order"]);
    let mut history = well(Kind::Contact);
    history.came.push(taken(1, Kind::Contact));
    history.unsaid.push(item(1, Kind::Contact));
    assert_faults(&history, &["1 delivered out of order"]);
    // However many requests it had: they were over before the newer one was begun.
    history.sent.insert(item(1, Kind::Contact), Told { requests: 3, ..told(10, 15) });
    assert_faults(&history, &["1 delivered out of order"]);
}

#[test]
fn what_is_refused_again_after_a_newer_one_was_taken_is_out_of_order() {
    let mut history = refused();
    history.came.push(came(2, Kind::Contact, Outcome::Refused));
    assert_faults(&history, &["1 delivered out of order"]);
    let mut history = refused();
    history.came.push(came(2, Kind::Contact, Outcome::Failed));
    assert_faults(&history, &[]);
}

#[test]
fn steps_that_were_under_way_at_the_same_time_come_in_any_order() {
    for kind in [Kind::Webhook, Kind::Contact, Kind::Event] {
        assert_faults(&overlapping(kind, vec![taken(1, kind), taken(2, kind)]), &[]);
        assert_faults(&overlapping(kind, vec![taken(2, kind), taken(1, kind)]), &[]);
    }
}

#[test]
fn but_none_is_passed_while_it_is_neither_taken_nor_given_up() {
    let kind = Kind::Contact;
    let failed = came(1, kind, Outcome::Failed);
    let mut history = overlapping(kind, vec![failed.clone(), taken(2, kind), taken(1, kind)]);
    assert_faults(&history, &["1 delivered out of order"]);
    // Another request may have come after the newer one.
    let again = Told { requests: 2, ..told(10, 20) };
    history.sent.insert(item(1, kind), again);
    assert_faults(&history, &[]);
    let mut history = overlapping(kind, vec![failed.clone(), failed, taken(1, kind), taken(2, kind)]);
    assert_faults(&history, &[]);
    history.unsaid.push(item(1, kind));
    history.came.push(taken(1, kind));
    assert_faults(&history, &["1 delivered out of order"]);
}

#[test]
fn of_a_webhook_or_event_that_arrived_another_request_brings_nothing_after_a_newer_one() {
    let kind = Kind::Webhook;
    let mut history = overlapping(kind, vec![taken(1, kind), taken(2, kind), taken(1, kind)]);
    history.sent.insert(item(1, kind), Told { requests: 2, acknowledged: 2, ..told(10, 30) });
    history.unsaid.push(item(1, kind));
    assert_faults(&history, &["1 delivered out of order"]);
}

#[test]
fn the_steps_of_two_contacts_have_no_order() {
    let mut history = well(Kind::Contact);
    let bobs = Item { contact: "bob".to_owned(), ..item(1, Kind::Contact) };
    history.came.push(Came { item: bobs.clone(), ..taken(1, Kind::Contact) });
    history.sent.insert(bobs, told(10, 15));
    assert_faults(&history, &[]);
}

#[test]
fn a_history_of_nothing_proves_nothing() {
    assert_eq!(Count::of(&History::default()).faults().len(), 1);
    let mut history = History { is_faulty: true, ..well(Kind::Webhook) };
    assert_faults(&history, &["the fault never came, so nothing was tried"]);
    history.struck = 1;
    assert_faults(&history, &[]);
}

#[test]
fn what_waits_for_ever_and_what_follows_a_redirect_is_a_fault() {
    let history = History { waiting: 2, redirects_followed: 1, ..well(Kind::Contact) };
    assert_faults(&history, &["1 sent where a redirect led", "2 still waiting"]);
}
