//! Events of which it is not known whether Loops has them: Loops knows a repeat by its key for a day, and nobody is mailed
//! twice after that.

use jiff::SignedDuration;
use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::{Reply, ScriptedDestination};

use super::{contact_update, event_with_caller_key, new_store, seconds, snapshot_of};
use crate::Store;

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn event(store: &Store) -> Delivery {
    event_with_caller_key(store, "pro", "Berlin")
}

async fn admit(store: &Store, mode: DeliveryMode) -> Admission {
    store.intake().admit(&event(store), mode).await.unwrap()
}

async fn dead_reasons(store: &Store) -> Vec<String> {
    store.dead_letters().await.into_iter().map(|dead| dead.reason).collect()
}

/// Has an event attempted with these replies, a quarter of an hour between them, and again after so long.
async fn attempt_again_after(replies: &[Reply], wait: SignedDuration) -> (Store, ScriptedDestination) {
    let (mut store, destination) = new_store().await;
    assert_eq!(admit(&store, DeliveryMode::Async).await, Admission::Queued);
    for reply in replies {
        destination.enqueue_replies([*reply]);
        store.work(&destination).await;
        store.advance(seconds(900)).await;
    }
    store.advance(wait).await;
    store.work(&destination).await;
    (store, destination)
}

#[tokio::test]
async fn event_without_an_answer_is_sent_again_within_23_hours() {
    let (store, destination) = attempt_again_after(&[Reply::RetryAfter(1)], hours(22)).await;
    assert_eq!((destination.received().len(), dead_reasons(&store).await), (2, Vec::new()));
    assert_eq!(snapshot_of(&store, &event(&store)).await.state, "delivered");
    assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::AlreadyDelivered);
}

#[tokio::test]
async fn event_without_an_answer_is_not_sent_after_23_hours() {
    for first in [Reply::RetryAfter(1), Reply::Fail(503), Reply::AcceptThenHang] {
        for then in [None, Some(Reply::Fail(429)), Some(Reply::NeedsOperator)] {
            let replies: Vec<Reply> = [first].into_iter().chain(then).collect();
            let (store, destination) = attempt_again_after(&replies, hours(23)).await;
            assert_eq!(destination.received().len(), replies.len(), "{replies:?}");
            assert_eq!(dead_reasons(&store).await, ["outcome_unknown"], "{replies:?}");
        }
    }
}

#[tokio::test]
async fn event_that_was_certainly_not_taken_is_sent_a_day_later() {
    for reply in [Reply::Fail(429), Reply::NeedsOperator] {
        let (store, destination) = attempt_again_after(&[reply], hours(48)).await;
        assert_eq!((destination.received().len(), dead_reasons(&store).await), (2, Vec::new()), "{reply:?}");
    }
}

#[tokio::test]
async fn queued_event_that_was_never_sent_is_sent_a_day_later() {
    let (mut store, destination) = new_store().await;
    let other = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    // Its caller may send it, but the contact is locked.
    assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::Queued);
    store.intake().complete(&other, SyncSendResult::Delivered).await.unwrap();
    store.advance(hours(25)).await;
    store.work(&destination).await;
    assert_eq!((destination.received().len(), dead_reasons(&store).await), (1, Vec::new()));
}

/// Has an event deferred by its caller.
async fn defer(store: &Store, outcome_unknown: bool) {
    let first = event(store);
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let deferred = SyncSendResult::Deferred {
        attempts: 2,
        retry_at: store.clock().now(),
        reason: Reason::without_status(ReasonCode::Unreachable),
        no_early_retry: false,
        outcome_unknown,
    };
    store.intake().complete(&first, deferred).await.unwrap();
}

#[tokio::test]
async fn deferred_event_is_sent_a_day_later_if_its_outcome_is_known() {
    for (outcome_unknown, received, dead) in [(false, 1, Vec::new()), (true, 0, vec!["outcome_unknown".to_owned()])] {
        let (mut store, destination) = new_store().await;
        defer(&store, outcome_unknown).await;
        store.advance(hours(25)).await;
        store.work(&destination).await;
        assert_eq!((destination.received().len(), dead_reasons(&store).await), (received, dead));
    }
}

#[tokio::test]
async fn row_of_a_killed_caller_is_sent_within_23_hours() {
    let (mut store, _) = new_store().await;
    for _ in 0..2 {
        assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::SendNow);
        store.kill_callers().await;
        store.advance(hours(11)).await;
    }
    assert_eq!(dead_reasons(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn row_of_a_killed_caller_is_kept_not_sent_after_23_hours() {
    let (mut store, destination) = new_store().await;
    for wait in [12, 12] {
        assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::SendNow);
        store.kill_callers().await;
        store.advance(hours(wait)).await;
    }
    for mode in [DeliveryMode::Sync, DeliveryMode::Async, DeliveryMode::Sync] {
        assert_eq!(admit(&store, mode).await, Admission::OutcomeUnknown, "{mode:?}");
        let unrecorded = store.intake().admit_without_record(&event(&store)).await.unwrap();
        assert_eq!(unrecorded, Admission::OutcomeUnknown);
        assert_eq!(dead_reasons(&store).await, ["outcome_unknown"]);
    }
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 0);
    let other = event_with_caller_key(&store, "free", "Berlin");
    assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::OutcomeUnknown);
}

#[tokio::test]
async fn row_rejected_after_an_unknown_try_is_not_sent_a_day_later() {
    let (mut store, _) = new_store().await;
    assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::SendNow);
    store.intake().complete(&event(&store), SyncSendResult::OutcomeUnknown).await.unwrap();
    store.advance(hours(1)).await;
    assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::SendNow);
    store.intake().complete(&event(&store), SyncSendResult::Rejected).await.unwrap();
    store.advance(hours(22)).await;
    assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::OutcomeUnknown);
}

#[tokio::test]
async fn other_dead_letter_with_an_unknown_outcome_is_not_sent_a_day_later() {
    let (mut store, destination) = new_store().await;
    assert_eq!(admit(&store, DeliveryMode::Async).await, Admission::Queued);
    destination.enqueue_replies([Reply::Fail(500), Reply::Reject(422)]);
    store.work(&destination).await;
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    assert_eq!(dead_reasons(&store).await, ["clay_rejected"]);
    let other = event_with_caller_key(&store, "free", "Berlin");
    assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::OutcomeUnknown);
    store.advance(hours(23)).await;
    assert_eq!(admit(&store, DeliveryMode::Sync).await, Admission::OutcomeUnknown);
    assert_eq!(dead_reasons(&store).await, ["clay_rejected"]);
}
