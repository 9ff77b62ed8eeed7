//! The fast path past the queue.

use jiff::Timestamp;
use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{contact_update, loops_event, new_store, seconds, snapshot_of};
use crate::Store;

fn deferral(store: &Store, wait: i64) -> SyncSendResult {
    let at: Timestamp = store.clock().now().checked_add(seconds(wait)).unwrap();
    let reason = Reason { code: ReasonCode::DestinationFailed, status: Some(503) };
    SyncSendResult::Deferred { attempts: 2, retry_at: at, reason, no_early_retry: false, outcome_unknown: true }
}

/// A row that has to wait after all, and behind it another one of its contact; gives the first.
async fn defer_row_before_another(store: &Store) -> Delivery {
    let first = contact_update(store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let second = contact_update(store, "ada@example.com", "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.intake().complete(&first, deferral(store, 30)).await.unwrap();
    first
}

#[tokio::test]
async fn fast_path_denied_while_contact_has_queued_delivery() {
    let (mut store, destination) = new_store().await;
    let first = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    let second = contact_update(&store, "ada@example.com", "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    let other = contact_update(&store, "bob@example.com", "bob");
    assert_eq!(
        store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(),
        Admission::SendNow,
        "another contact's is free"
    );
    store.intake().complete(&other, SyncSendResult::Delivered).await.unwrap();
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2"]);
    let third = contact_update(&store, "ada@example.com", "3");
    assert_eq!(store.intake().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn contact_lock_is_exclusive() {
    let (store, _) = new_store().await;
    let first = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let second = contact_update(&store, "ada@example.com", "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn unstored_delivery_still_takes_contact_lock() {
    let (mut store, destination) = new_store().await;
    let first = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit_without_record(&first).await.unwrap(), Admission::SendNow);
    let other = contact_update(&store, "ada@example.com", "other");
    assert_eq!(store.intake().admit_without_record(&other).await.unwrap(), Admission::InFlight, "one at a time");
    let second = contact_update(&store, "ada@example.com", "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert!(destination.received().is_empty(), "not while the first is being sent");
    store.intake().complete(&first, SyncSendResult::Delivered).await.unwrap();
    assert_eq!(store.intake().admit_without_record(&other).await.unwrap(), Admission::InFlight, "the second waits");
    store.advance(seconds(3)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["2"]);
    assert_eq!(store.intake().admit_without_record(&other).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn deferred_row_keeps_arrival_order() {
    let (mut store, destination) = new_store().await;
    defer_row_before_another(&store).await;
    store.work(&destination).await;
    assert!(destination.received().is_empty(), "not before its time, and nothing before it");
    store.advance(seconds(31)).await;
    store.work(&destination).await;
    store.advance(seconds(31)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2"]);
}

#[tokio::test]
async fn retry_after_is_honoured_despite_other_success() {
    let (mut store, destination) = new_store().await;
    let first = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let SyncSendResult::Deferred { attempts, retry_at, reason, .. } = deferral(&store, 600) else {
        panic!("it is put off")
    };
    let pinned_deferral =
        SyncSendResult::Deferred { attempts, retry_at, reason, no_early_retry: true, outcome_unknown: true };
    store.intake().complete(&first, pinned_deferral).await.unwrap();
    destination.enqueue_replies([Reply::Fail(503)]);
    let other = contact_update(&store, "bob@example.com", "2");
    assert_eq!(store.intake().admit(&other, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for wait in [2, 590] {
        store.work(&destination).await;
        store.advance(seconds(wait)).await;
    }
    store.work(&destination).await;
    assert_eq!(destination.received(), ["2", "2"]);
    store.advance(seconds(9)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["2", "2", "1"]);
}

#[tokio::test]
async fn deferred_row_dead_lettered_once_not_resent_after_newer() {
    let (mut store, destination) = new_store().await;
    let first = defer_row_before_another(&store).await;
    // The second blocks those behind it for longer than the deduplication interval of a queue.
    destination.enqueue_replies([Reply::Reject(422), Reply::RetryAfter(400)]);
    for _ in 0..3 {
        store.advance(seconds(401)).await;
        store.work(&destination).await;
    }
    assert_eq!(destination.received(), ["1", "2", "2"]);
    let dead_letters = store.dead_letters().await;
    let ids: Vec<_> = dead_letters.iter().map(|dead_letter| dead_letter.id.as_str()).collect();
    assert_eq!(ids, [first.id.as_str()]);
    let third = contact_update(&store, "ada@example.com", "3");
    assert_eq!(store.intake().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn fast_path_attempts_count_with_their_reason() {
    let (mut store, destination) = new_store().await;
    let event = loops_event(&store, "key_1", "ada@example.com", "event");
    let started_at = store.clock().now();
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.intake().complete(&event, deferral(&store, 30)).await.unwrap();
    store.advance(seconds(31)).await;
    store.work(&destination).await;
    let snapshot = snapshot_of(&store, &event).await;
    assert_eq!((snapshot.state.as_str(), snapshot.attempts), ("delivered", 3));
    assert_eq!(snapshot.failures, [(("destination_failed".to_owned(), Some(503)), 1)].into());
    assert_eq!((snapshot.first_attempt_at, snapshot.last_attempt_at), (Some(started_at), Some(store.clock().now())));
}

#[tokio::test]
async fn rejected_row_leaves_no_record() {
    let (store, _) = new_store().await;
    let event = loops_event(&store, "key_1", "ada@example.com", "event");
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.intake().complete(&event, SyncSendResult::Rejected).await.unwrap();
    assert_eq!(store.snapshot(&event.id).await, None);
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn dead_event_is_stored_again_when_its_row_is_rerun() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Reject(422)]);
    let invalid = loops_event(&store, "key_1", "ada@example.com", "wrong");
    assert_eq!(store.intake().admit(&invalid, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &invalid).await.state, "dead");
    let corrected = loops_event(&store, "key_1", "ada@example.com", "mended");
    assert_eq!(store.intake().admit(&corrected, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received(), ["wrong", "mended"]);
    assert_eq!(snapshot_of(&store, &corrected).await.state, "delivered");
}

#[tokio::test]
async fn largest_row_is_deferred_and_delivered_first() {
    let (mut store, destination) = new_store().await;
    // 256 KiB of escaped quotation marks, each of which a message escapes once more.
    let largest = format!("{{\"{}\":1}}", "\\\"".repeat(256 * 1024 / 2 - 3));
    let first = contact_update(&store, "ada@example.com", &largest);
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let second = contact_update(&store, "ada@example.com", "{}");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.intake().complete(&first, deferral(&store, 30)).await.unwrap();
    store.advance(seconds(60)).await;
    store.work(&destination).await;
    assert!(destination.received() == [largest, "{}".to_owned()], "{} bodies", destination.received().len());
}
