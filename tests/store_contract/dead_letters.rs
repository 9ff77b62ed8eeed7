//! Dead letters and their redrive.

use relay::ports::clock::Clock as _;
use relay::ports::queue::Queue as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_testkit::store_harness::scripted_destination::Reply;
use relay_testkit::store_harness::{DeadLetterSnapshot, StoreHarness as _};

use super::{accept_webhook, clay_row, contact_update, event_with_caller_key, new_store, seconds, snapshot_of};

#[tokio::test]
async fn dead_letter_has_reason_times_and_attempt_count() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    destination.enqueue_replies([Reply::Fail(503), Reply::Reject(422)]);
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    let expected = DeadLetterSnapshot {
        id: row.id.as_str().to_owned(),
        reason: "clay_rejected".to_owned(),
        status: Some(422),
        attempts: 2,
        received_at: row.received_at,
        dead_lettered_at: store.clock().now(),
    };
    assert_eq!(store.dead_letters().await, [expected]);
    let snapshot = snapshot_of(&store, &row).await;
    assert_eq!((snapshot.state.as_str(), snapshot.reason), ("dead", Some(("clay_rejected".to_owned(), Some(422)))));
}

#[tokio::test]
async fn repeated_rejected_delivery_is_dead_lettered_once() {
    let (store, _) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    for _ in 0..2 {
        store.queue().dead_letter(&row, Reason::without_status(ReasonCode::NoRoute)).await.unwrap();
    }
    let expected = DeadLetterSnapshot {
        id: row.id.as_str().to_owned(),
        reason: "no_route".to_owned(),
        status: None,
        attempts: 0,
        received_at: row.received_at,
        dead_lettered_at: store.clock().now(),
    };
    assert_eq!(store.dead_letters().await, [expected]);
}

#[tokio::test]
async fn redriven_dead_letter_that_fails_counts_all_attempts() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    destination.set_default_reply(Reply::Reject(422));
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    store.advance(seconds(60)).await;
    store.redrive(&row.id).await;
    store.work(&destination).await;
    let dead_letters = store.dead_letters().await;
    let attempts: Vec<_> =
        dead_letters.iter().map(|dead_letter| (dead_letter.attempts, dead_letter.dead_lettered_at)).collect();
    assert_eq!(attempts, [(2, store.clock().now())]);
    assert_eq!(snapshot_of(&store, &row).await.failures, [(("clay_rejected".to_owned(), Some(422)), 2)].into());
}

#[tokio::test]
async fn redriven_dead_letter_that_is_delivered_is_removed() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    destination.enqueue_replies([Reply::Reject(422)]);
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    store.redrive(&row.id).await;
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &row).await.state, "delivered");
    assert!(store.dead_letters().await.is_empty());
}

/// Enqueues an event that its destination rejects.
async fn store_dead_event(
    store: &mut crate::Store,
    destination: &relay_testkit::store_harness::scripted_destination::ScriptedDestination,
) -> Delivery {
    let event = event_with_caller_key(store, "pro", "Berlin");
    assert_eq!(store.intake().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    destination.enqueue_replies([Reply::Reject(422)]);
    store.work(destination).await;
    event
}

async fn dead_letter_reasons(store: &crate::Store) -> Vec<String> {
    store.dead_letters().await.into_iter().map(|dead_letter| dead_letter.reason).collect()
}

#[tokio::test]
async fn rerun_dead_event_stays_dead_lettered_until_delivered() {
    let (mut store, destination) = new_store().await;
    let event = store_dead_event(&mut store, &destination).await;
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.intake().complete(&event, SyncSendResult::Rejected).await.unwrap();
    assert_eq!(dead_letter_reasons(&store).await, ["clay_rejected"], "refused again");
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    // Its caller is gone.
    drop(store.intake().guard(&event));
    store.advance(seconds(61)).await;
    let other = contact_update(&store, "bob@example.com", "2");
    assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(dead_letter_reasons(&store).await, ["clay_rejected"], "never ended");
}

#[tokio::test]
async fn other_event_under_the_key_of_a_dead_letter_keeps_it() {
    let (mut store, destination) = new_store().await;
    store_dead_event(&mut store, &destination).await;
    let other = event_with_caller_key(&store, "free", "Berlin");
    assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.intake().complete(&other, SyncSendResult::Delivered).await.unwrap();
    assert_eq!(dead_letter_reasons(&store).await, ["clay_rejected"]);
    assert_eq!(snapshot_of(&store, &other).await.state, "delivered");
}

#[tokio::test]
async fn event_with_unknown_outcome_is_sent_when_rerun() {
    let (mut store, _) = new_store().await;
    let event = event_with_caller_key(&store, "pro", "Berlin");
    for _ in 0..2 {
        assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        drop(store.intake().guard(&event));
        store.advance(seconds(61)).await;
    }
}
