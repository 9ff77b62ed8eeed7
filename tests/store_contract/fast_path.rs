//! The lane past the queue.

use jiff::Timestamp;
use relay::ports::clock::Clock as _;
use relay::ports::fast_path::{Admission, DeliveryMode, FastPath as _, FastPathResult};
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{event, known, seconds, store, update};
use crate::Store;

fn postponed(store: &Store, wait: i64) -> FastPathResult {
    let at: Timestamp = store.clock().now().checked_add(seconds(wait)).unwrap();
    let reason = Reason { code: ReasonCode::DestinationFailed, status: Some(503) };
    FastPathResult::Deferred { attempts: 2, retry_at: at, reason, no_early_retry: false }
}

/// A row that has to wait after all, and behind it another one of its contact; gives the first.
async fn put_off_before_another(store: &Store) -> Delivery {
    let first = update(store, "ada@example.com", "1");
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let second = update(store, "ada@example.com", "2");
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.fast_path().complete(&first, postponed(store, 30)).await.unwrap();
    first
}

#[tokio::test]
async fn nothing_goes_directly_while_something_of_the_contact_waits() {
    let (mut store, end) = store().await;
    let first = update(&store, "ada@example.com", "1");
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    let second = update(&store, "ada@example.com", "2");
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    let other = update(&store, "bob@example.com", "bob");
    assert_eq!(
        store.fast_path().admit(&other, DeliveryMode::Sync).await.unwrap(),
        Admission::SendNow,
        "another contact's is free"
    );
    store.fast_path().complete(&other, FastPathResult::Delivered).await.unwrap();
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "2"]);
    let third = update(&store, "ada@example.com", "3");
    assert_eq!(store.fast_path().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn one_at_a_time_has_the_lane_of_a_contact() {
    let (store, _) = store().await;
    let first = update(&store, "ada@example.com", "1");
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let second = update(&store, "ada@example.com", "2");
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn what_cannot_be_stored_has_the_lane_like_what_is() {
    let (mut store, end) = store().await;
    let first = update(&store, "ada@example.com", "1");
    assert_eq!(store.fast_path().admit_without_record(&first).await.unwrap(), Admission::SendNow);
    let other = update(&store, "ada@example.com", "other");
    assert_eq!(store.fast_path().admit_without_record(&other).await.unwrap(), Admission::InFlight, "one at a time");
    let second = update(&store, "ada@example.com", "2");
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert!(end.received().is_empty(), "not while the first is being sent");
    store.fast_path().complete(&first, FastPathResult::Delivered).await.unwrap();
    assert_eq!(store.fast_path().admit_without_record(&other).await.unwrap(), Admission::InFlight, "the second waits");
    store.advance(seconds(3)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["2"]);
    assert_eq!(store.fast_path().admit_without_record(&other).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn a_row_that_has_to_wait_after_all_keeps_its_place() {
    let (mut store, end) = store().await;
    put_off_before_another(&store).await;
    store.work(&end).await;
    assert!(end.received().is_empty(), "not before its time, and nothing before it");
    store.advance(seconds(31)).await;
    store.work(&end).await;
    store.advance(seconds(31)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "2"]);
}

#[tokio::test]
async fn a_row_that_is_put_off_as_its_far_end_asked_is_not_tried_before_though_another_one_gets_through() {
    let (mut store, end) = store().await;
    let first = update(&store, "ada@example.com", "1");
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let FastPathResult::Deferred { attempts, retry_at, reason, .. } = postponed(&store, 600) else {
        panic!("it is put off")
    };
    let put_off = FastPathResult::Deferred { attempts, retry_at, reason, no_early_retry: true };
    store.fast_path().complete(&first, put_off).await.unwrap();
    end.enqueue_replies([Reply::Fail(503)]);
    let other = update(&store, "bob@example.com", "2");
    assert_eq!(store.fast_path().admit(&other, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for wait in [2, 590] {
        store.work(&end).await;
        store.advance(seconds(wait)).await;
    }
    store.work(&end).await;
    assert_eq!(end.received(), ["2", "2"]);
    store.advance(seconds(9)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["2", "2", "1"]);
}

#[tokio::test]
async fn a_row_that_dies_in_front_of_a_newer_one_is_not_sent_again_after_it_and_is_kept_once() {
    let (mut store, end) = store().await;
    let first = put_off_before_another(&store).await;
    // The second keeps what stands behind it waiting for longer than a queue knows what was sent.
    end.enqueue_replies([Reply::Reject(422), Reply::RetryAfter(400)]);
    for _ in 0..3 {
        store.advance(seconds(401)).await;
        store.work(&end).await;
    }
    assert_eq!(end.received(), ["1", "2", "2"]);
    let letters = store.dead_letters().await;
    let ids: Vec<_> = letters.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!(ids, [first.id.as_str()]);
    let third = update(&store, "ada@example.com", "3");
    assert_eq!(store.fast_path().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn what_its_caller_has_waited_for_counts_as_attempts_and_by_its_reason() {
    let (mut store, end) = store().await;
    let event = event(&store, "key_1", "ada@example.com", "event");
    let began = store.clock().now();
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.fast_path().complete(&event, postponed(&store, 30)).await.unwrap();
    store.advance(seconds(31)).await;
    store.work(&end).await;
    let known = known(&store, &event).await;
    assert_eq!((known.state.as_str(), known.attempts), ("delivered", 3));
    assert_eq!(known.failures, [(("destination_failed".to_owned(), Some(503)), 1)].into());
    assert_eq!((known.first_attempt_at, known.last_attempt_at), (Some(began), Some(store.clock().now())));
}

#[tokio::test]
async fn what_its_caller_was_refused_is_forgotten() {
    let (store, _) = store().await;
    let event = event(&store, "key_1", "ada@example.com", "event");
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.fast_path().complete(&event, FastPathResult::Rejected).await.unwrap();
    assert_eq!(store.snapshot(&event.id).await, None);
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn an_event_that_died_is_stored_anew_when_its_row_is_run_again() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Reject(422)]);
    let wrong = event(&store, "key_1", "ada@example.com", "wrong");
    assert_eq!(store.fast_path().admit(&wrong, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert_eq!(known(&store, &wrong).await.state, "dead");
    let mended = event(&store, "key_1", "ada@example.com", "mended");
    assert_eq!(store.fast_path().admit(&mended, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert_eq!(end.received(), ["wrong", "mended"]);
    assert_eq!(known(&store, &mended).await.state, "delivered");
}
