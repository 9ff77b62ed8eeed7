//! Histories that are violations, and histories that are not.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::chaos::history::{ReceivedItem, SentItem};

fn item(step: u32, kind: ItemKind) -> Item {
    Item { contact: "ada".to_owned(), step, kind }
}

fn received(step: u32, kind: ItemKind, outcome: DestinationOutcome) -> ReceivedItem {
    ReceivedItem { item: item(step, kind), outcome, at: Timestamp::UNIX_EPOCH }
}

fn accepted(step: u32, kind: ItemKind) -> ReceivedItem {
    received(step, kind, DestinationOutcome::Accepted)
}

/// One request, acknowledged; from and to so many seconds after the beginning.
fn sent_item(started: u64, finished: u64) -> SentItem {
    let (started_at, finished_at) = (Duration::from_secs(started), Duration::from_secs(finished));
    SentItem { requests: 1, acknowledged: 1, started_at, finished_at, ..SentItem::default() }
}

/// Three steps of a contact, sent one after another, acknowledged and accepted in order.
fn good_history(kind: ItemKind) -> History {
    let sent = (1..=3).map(|step| (item(step, kind), sent_item(u64::from(step) * 10, u64::from(step) * 10 + 5)));
    History { sent: sent.collect(), received: (1..=3).map(|step| accepted(step, kind)).collect(), ..History::default() }
}

/// Two steps, the newer sent while the older is unanswered, with these requests at the destination.
fn overlapping_history(kind: ItemKind, received: Vec<ReceivedItem>) -> History {
    History {
        sent: [(item(1, kind), sent_item(10, 20)), (item(2, kind), sent_item(15, 25))].into(),
        received,
        ..History::default()
    }
}

fn dead_letter(step: u32, reason: &str) -> DeadLetter {
    DeadLetter { item: item(step, ItemKind::Contact), reason: reason.to_owned(), status: Some(422) }
}

/// Three steps, the second of which is rejected and dead-lettered.
fn rejected_history() -> History {
    let mut history = good_history(ItemKind::Contact);
    history.received[1].outcome = DestinationOutcome::Rejected;
    history.dead_letters.push(dead_letter(2, "loops_rejected"));
    history
}

#[track_caller]
fn assert_violations(history: &History, violations: &[&str]) {
    assert_eq!(Totals::from_history(history).violations(), violations);
}

#[test]
fn ordered_exactly_once_delivery_has_no_violations() {
    for kind in [ItemKind::Webhook, ItemKind::Contact, ItemKind::Event, ItemKind::Email] {
        let totals = Totals::from_history(&good_history(kind));
        assert_eq!((totals.sent, totals.acknowledged, totals.delivered), (3, 3, 3));
        assert_violations(&good_history(kind), &[]);
    }
}

#[test]
fn acknowledged_but_undelivered_item_is_lost() {
    let mut history = good_history(ItemKind::Webhook);
    history.received.remove(1);
    assert_violations(&history, &["1 acknowledged and never delivered"]);
}

#[test]
fn unacknowledged_item_is_violation_even_if_delivered() {
    let mut history = good_history(ItemKind::Webhook);
    let unacknowledged = SentItem { acknowledged: 0, unanswered: 1, ..sent_item(30, 35) };
    history.sent.insert(item(3, ItemKind::Webhook), unacknowledged);
    assert_violations(&history, &["1 never acknowledged"]);
    history.received.pop();
    assert_violations(&history, &["1 never acknowledged"]);
}

#[test]
fn delivered_item_never_sent_is_violation() {
    let mut history = good_history(ItemKind::Webhook);
    history.sent.remove(&item(3, ItemKind::Webhook));
    assert_eq!(Totals::from_history(&history).never_sent, 1);
    assert!(Totals::from_history(&history).violations().contains(&"1 delivered but never sent".to_owned()));
}

#[test]
fn rejected_item_with_matching_dead_letter_is_not_lost() {
    assert_violations(&rejected_history(), &[]);
    let mut history = rejected_history();
    history.dead_letters.clear();
    assert_violations(&history, &["1 acknowledged and never delivered"]);
    // Of another step, or for another reason.
    history.dead_letters.push(dead_letter(3, "loops_rejected"));
    let lost_and_unjustified =
        ["1 acknowledged and never delivered", "1 dead-lettered though the destination did not reject them"];
    assert_violations(&history, &lost_and_unjustified);
    history.dead_letters = vec![dead_letter(2, "timed_out")];
    assert_violations(&history, &lost_and_unjustified);
}

#[test]
fn rejected_item_is_not_lost_if_last_response_reports_it() {
    let mut history = rejected_history();
    history.dead_letters.clear();
    let rejected = SentItem { requests: 2, rejected: 1, last_rejected: true, ..sent_item(20, 25) };
    history.sent.insert(item(2, ItemKind::Contact), rejected);
    assert_violations(&history, &[]);
    history.sent.insert(item(2, ItemKind::Contact), SentItem { last_rejected: false, ..rejected });
    assert_violations(&history, &["1 acknowledged and never delivered"]);
}

#[test]
fn accepted_item_reported_as_rejected_is_violation() {
    let mut history = good_history(ItemKind::Contact);
    history.dead_letters.push(dead_letter(2, "loops_rejected"));
    assert_violations(&history, &["1 dead-lettered though the destination did not reject them"]);
    let mut history = good_history(ItemKind::Contact);
    history.sent.insert(item(2, ItemKind::Contact), SentItem { requests: 2, rejected: 1, ..sent_item(20, 25) });
    assert_violations(&history, &["1 dead-lettered though the destination did not reject them"]);
}

#[test]
fn more_dead_letters_than_requests_is_violation() {
    let mut history = rejected_history();
    history.dead_letters.push(dead_letter(2, "loops_rejected"));
    assert_violations(&history, &["1 superfluous dead letters"]);
    history.sent.insert(item(2, ItemKind::Contact), SentItem { requests: 2, acknowledged: 2, ..sent_item(20, 25) });
    assert_violations(&history, &[]);
}

#[test]
fn duplicate_is_violation_unless_first_accept_was_silent() {
    for kind in [ItemKind::Webhook, ItemKind::Contact] {
        let mut history = good_history(kind);
        history.received.push(accepted(3, kind));
        assert_violations(&history, &["1 duplicated without need"]);
        history.accepted_silently.push(item(2, kind));
        assert_violations(&history, &["1 duplicated without need"]);
        history.accepted_silently.push(item(3, kind));
        assert_eq!(
            (Totals::from_history(&history).duplicated, Totals::from_history(&history).allowed_duplicates),
            (1, 2)
        );
        assert_violations(&history, &[]);
        history.received.push(accepted(3, kind));
        assert_violations(&history, &["1 duplicated without need"]);
    }
}

#[test]
fn in_flight_item_may_be_duplicated_once_per_crash() {
    let mut history = good_history(ItemKind::Webhook);
    history.received.extend([accepted(3, ItemKind::Webhook), accepted(3, ItemKind::Webhook)]);
    history.in_flight_at_crash.extend([item(1, ItemKind::Webhook), item(3, ItemKind::Webhook)]);
    assert_violations(&history, &["1 duplicated without need"]);
    history.in_flight_at_crash.push(item(3, ItemKind::Webhook));
    assert_violations(&history, &[]);
}

#[test]
fn event_or_email_accepted_twice_is_violation() {
    for kind in [ItemKind::Event, ItemKind::Email] {
        let mut history = good_history(kind);
        history.received.push(accepted(3, kind));
        history.accepted_silently.push(item(3, kind));
        assert_violations(&history, &["1 events or e-mails processed twice"]);
    }
}

#[test]
fn resent_unanswered_update_counts_as_separate_update() {
    let mut history = good_history(ItemKind::Contact);
    history.received.push(accepted(3, ItemKind::Contact));
    history.sent.insert(item(3, ItemKind::Contact), SentItem { requests: 2, unanswered: 1, ..sent_item(30, 35) });
    assert_violations(&history, &[]);
}

#[test]
fn older_step_after_newer_is_out_of_order_even_if_repeated() {
    let mut history = good_history(ItemKind::Contact);
    history.received.swap(0, 1);
    assert_violations(&history, &["1 delivered out of order"]);
    let mut history = good_history(ItemKind::Contact);
    history.received.push(accepted(1, ItemKind::Contact));
    history.accepted_silently.push(item(1, ItemKind::Contact));
    assert_violations(&history, &["1 delivered out of order"]);
    // Its requests had all finished before the newer step began.
    history.sent.insert(item(1, ItemKind::Contact), SentItem { requests: 3, ..sent_item(10, 15) });
    assert_violations(&history, &["1 delivered out of order"]);
}

#[test]
fn rejection_after_newer_step_accepted_is_out_of_order() {
    let mut history = rejected_history();
    history.received.push(received(2, ItemKind::Contact, DestinationOutcome::Rejected));
    assert_violations(&history, &["1 delivered out of order"]);
    let mut history = rejected_history();
    history.received.push(received(2, ItemKind::Contact, DestinationOutcome::Failed));
    assert_violations(&history, &[]);
}

#[test]
fn concurrent_steps_may_arrive_in_any_order() {
    for kind in [ItemKind::Webhook, ItemKind::Contact, ItemKind::Event, ItemKind::Email] {
        assert_violations(&overlapping_history(kind, vec![accepted(1, kind), accepted(2, kind)]), &[]);
        assert_violations(&overlapping_history(kind, vec![accepted(2, kind), accepted(1, kind)]), &[]);
    }
}

#[test]
fn unfinished_step_overtaken_by_newer_is_out_of_order() {
    let kind = ItemKind::Contact;
    let failed = received(1, kind, DestinationOutcome::Failed);
    let mut history = overlapping_history(kind, vec![failed.clone(), accepted(2, kind), accepted(1, kind)]);
    assert_violations(&history, &["1 delivered out of order"]);
    // Another request of it may have arrived after the newer step.
    let retried = SentItem { requests: 2, ..sent_item(10, 20) };
    history.sent.insert(item(1, kind), retried);
    assert_violations(&history, &[]);
    let mut history = overlapping_history(kind, vec![failed.clone(), failed, accepted(1, kind), accepted(2, kind)]);
    assert_violations(&history, &[]);
    history.accepted_silently.push(item(1, kind));
    history.received.push(accepted(1, kind));
    assert_violations(&history, &["1 delivered out of order"]);
}

#[test]
fn resent_delivered_webhook_after_newer_is_out_of_order() {
    let kind = ItemKind::Webhook;
    let mut history = overlapping_history(kind, vec![accepted(1, kind), accepted(2, kind), accepted(1, kind)]);
    history.sent.insert(item(1, kind), SentItem { requests: 2, acknowledged: 2, ..sent_item(10, 30) });
    history.accepted_silently.push(item(1, kind));
    assert_violations(&history, &["1 delivered out of order"]);
}

#[test]
fn steps_of_different_contacts_are_unordered() {
    let mut history = good_history(ItemKind::Contact);
    let bobs_item = Item { contact: "bob".to_owned(), ..item(1, ItemKind::Contact) };
    history.received.push(ReceivedItem { item: bobs_item.clone(), ..accepted(1, ItemKind::Contact) });
    history.sent.insert(bobs_item, sent_item(10, 15));
    assert_violations(&history, &[]);
}

#[test]
fn empty_or_faultless_history_is_violation() {
    assert_eq!(Totals::from_history(&History::default()).violations().len(), 1);
    let mut history = History { is_faulty: true, ..good_history(ItemKind::Webhook) };
    assert_violations(&history, &["the fault never occurred, so nothing was tested"]);
    history.faults_hit = 1;
    assert_violations(&history, &[]);
}

#[test]
fn undelivered_items_and_followed_redirects_are_violations() {
    let history = History { waiting: 2, redirects_followed: 1, ..good_history(ItemKind::Contact) };
    assert_violations(&history, &["1 sent to the target of a redirect", "2 still waiting"]);
}
