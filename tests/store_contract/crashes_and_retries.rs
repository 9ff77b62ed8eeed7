//! What becomes of attempts that fail, and of workers that are killed.

use relay::ports::clock::Clock as _;
use relay_testkit::store_harness::scripted_destination::Reply;
use relay_testkit::store_harness::{CrashPoint, StoreHarness as _};

use crate::Store;

use super::{accept_webhook, clay_row, new_store, seconds, snapshot_of};

#[tokio::test]
async fn failed_delivery_is_not_retried_before_its_time() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::RetryAfter(120)]);
    accept_webhook(&store, &clay_row(&store, "msg_1", "ada@example.com", "one")).await;
    store.work(&destination).await;
    store.advance(seconds(119)).await;
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 1);
    store.advance(seconds(1)).await;
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 2);
}

#[tokio::test]
async fn retry_after_in_queue_is_honoured_despite_other_success() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::RetryAfter(600), Reply::Fail(503)]);
    for (id, contact, body) in [("msg_1", "ada@example.com", "1"), ("msg_2", "bob@example.com", "2")] {
        accept_webhook(&store, &clay_row(&store, id, contact, body)).await;
        store.work(&destination).await;
    }
    store.advance(seconds(2)).await;
    store.work(&destination).await;
    store.advance(seconds(597)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2", "2"]);
    store.advance(seconds(1)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2", "2", "1"]);
}

#[tokio::test]
async fn failed_delivery_is_retried_when_another_retry_succeeds() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([
        Reply::Fail(503),
        Reply::Fail(503),
        Reply::Fail(503),
        Reply::Fail(503),
        Reply::Fail(503),
    ]);
    accept_webhook(&store, &clay_row(&store, "msg_1", "ada@example.com", "1")).await;
    for wait in [9, 9, 9, 3] {
        store.work(&destination).await;
        store.advance(seconds(wait)).await;
    }
    accept_webhook(&store, &clay_row(&store, "msg_2", "bob@example.com", "2")).await;
    store.work(&destination).await;
    store.advance(seconds(2)).await;
    store.work(&destination).await;
    if !Store::RELEASES_EARLY {
        assert_eq!(destination.received(), ["1", "1", "1", "1", "2", "2"]);
        store.advance(seconds(900)).await;
        store.work(&destination).await;
    }
    assert_eq!(destination.received(), ["1", "1", "1", "1", "2", "2", "1"]);
}

#[tokio::test]
async fn held_delivery_is_retried_when_another_succeeds() {
    let (mut store, destination) = new_store().await;
    destination.set_default_reply(Reply::NeedsOperator);
    let (first, second) =
        (clay_row(&store, "msg_1", "ada@example.com", "1"), clay_row(&store, "msg_2", "bob@example.com", "2"));
    accept_webhook(&store, &first).await;
    store.work(&destination).await;
    store.advance(seconds(30)).await;
    accept_webhook(&store, &second).await;
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &second).await.reason, Some(("no_webhook".to_owned(), None)));
    destination.set_default_reply(Reply::Accept);
    // The first is tried after its minute; the second would be half a minute later.
    store.advance(seconds(31)).await;
    store.work(&destination).await;
    if !Store::RELEASES_EARLY {
        assert_eq!(destination.received(), ["1", "2", "1"]);
        store.advance(seconds(30)).await;
        store.work(&destination).await;
    }
    assert_eq!(destination.received(), ["1", "2", "1", "2"]);
}

#[tokio::test]
async fn worker_killed_before_its_record_resends() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    accept_webhook(&store, &row).await;
    store.crash_during_work(&destination, CrashPoint::BeforeRecord).await;
    store.advance(seconds(360)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one", "one"]);
    let snapshot = snapshot_of(&store, &row).await;
    assert_eq!((snapshot.state.as_str(), snapshot.attempts), ("delivered", 2));
}

#[tokio::test]
async fn worker_killed_after_its_record_does_not_resend() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    accept_webhook(&store, &row).await;
    store.crash_during_work(&destination, CrashPoint::AfterRecord).await;
    store.advance(seconds(360)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one"]);
    let snapshot = snapshot_of(&store, &row).await;
    assert_eq!((snapshot.state.as_str(), snapshot.attempts), ("delivered", 1));
}

#[tokio::test]
async fn worker_killed_after_rejection_dead_letters_once() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Reject(422)]);
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    accept_webhook(&store, &row).await;
    store.crash_during_work(&destination, CrashPoint::AfterRecord).await;
    store.advance(seconds(360)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one"]);
    assert_eq!(store.dead_letters().await.len(), 1);
    assert_eq!(snapshot_of(&store, &row).await.state, "dead");
}

#[tokio::test]
async fn failures_are_counted_by_reason_with_attempt_times() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    let started_at = store.clock().now();
    destination.enqueue_replies([
        Reply::Fail(503),
        Reply::RetryAfter(1),
        Reply::Fail(503),
        Reply::Fail(500),
        Reply::NeedsOperator,
    ]);
    accept_webhook(&store, &row).await;
    for _ in 0..6 {
        store.work(&destination).await;
        store.advance(seconds(900)).await;
    }
    let snapshot = snapshot_of(&store, &row).await;
    let count = |code: &str, status, count| ((code.to_owned(), status), count);
    let expected = [
        count("destination_failed", Some(503), 2),
        count("destination_failed", Some(500), 1),
        count("no_webhook", None, 1),
        count("timed_out", None, 1),
    ];
    assert_eq!(snapshot.failures, expected.into());
    assert_eq!((snapshot.state.as_str(), snapshot.attempts, snapshot.reason), ("delivered", 6, None));
    assert_eq!(snapshot.first_attempt_at, Some(started_at));
    assert_eq!(snapshot.last_attempt_at, started_at.checked_add(seconds(5 * 900)).ok());
}

#[tokio::test]
async fn failing_delivery_expires_after_four_days_not_before() {
    let (mut store, destination) = new_store().await;
    destination.set_default_reply(Reply::Fail(503));
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    for _ in 0..96 {
        assert_eq!(snapshot_of(&store, &row).await.state, "waiting");
        store.advance(seconds(3600)).await;
        store.work(&destination).await;
    }
    let snapshot = snapshot_of(&store, &row).await;
    assert_eq!(
        (snapshot.state.as_str(), snapshot.attempts, snapshot.reason),
        ("dead", 97, Some(("destination_failed".to_owned(), Some(503))))
    );
    assert_eq!(store.dead_letters().await.len(), 1);
}
