//! What becomes of attempts that fail, and of workers that are killed.

use relay::ports::clock::Clock as _;
use relay_testkit::store_harness::scripted_destination::Reply;
use relay_testkit::store_harness::{CrashPoint, StoreHarness};

use super::{days, known, row, seconds, store, take};
use crate::Store;

#[tokio::test]
async fn what_failed_is_not_tried_before_its_time() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::RetryAfter(120)]);
    take(&store, &row(&store, "msg_1", "ada@example.com", "one")).await;
    store.work(&end).await;
    store.advance(seconds(119)).await;
    store.work(&end).await;
    assert_eq!(end.received().len(), 1);
    store.advance(seconds(1)).await;
    store.work(&end).await;
    assert_eq!(end.received().len(), 2);
}

#[tokio::test]
async fn what_the_far_end_asked_to_have_later_is_not_tried_before_though_another_one_gets_through() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::RetryAfter(600), Reply::Fail(503)]);
    for (id, contact, body) in [("msg_1", "ada@example.com", "1"), ("msg_2", "bob@example.com", "2")] {
        take(&store, &row(&store, id, contact, body)).await;
        store.work(&end).await;
    }
    store.advance(seconds(2)).await;
    store.work(&end).await;
    store.advance(seconds(597)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "2", "2"]);
    store.advance(seconds(1)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "2", "2", "1"]);
}

#[tokio::test]
async fn what_failed_goes_as_soon_as_another_one_that_had_failed_has_got_through() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Fail(503), Reply::Fail(503), Reply::Fail(503), Reply::Fail(503), Reply::Fail(503)]);
    take(&store, &row(&store, "msg_1", "ada@example.com", "1")).await;
    for wait in [9, 9, 9, 3] {
        store.work(&end).await;
        store.advance(seconds(wait)).await;
    }
    take(&store, &row(&store, "msg_2", "bob@example.com", "2")).await;
    store.work(&end).await;
    store.advance(seconds(2)).await;
    store.work(&end).await;
    if !Store::RELEASES_EARLY {
        store.advance(seconds(15 * 60)).await;
        store.work(&end).await;
    }
    assert_eq!(end.received(), ["1", "1", "1", "1", "2", "2", "1"]);
}

#[tokio::test]
async fn what_waits_for_a_person_goes_as_soon_as_another_one_has_got_through() {
    let (mut store, end) = store().await;
    end.set_default_reply(Reply::NeedsOperator);
    let (first, second) = (row(&store, "msg_1", "ada@example.com", "1"), row(&store, "msg_2", "bob@example.com", "2"));
    take(&store, &first).await;
    store.work(&end).await;
    store.advance(seconds(30)).await;
    take(&store, &second).await;
    store.work(&end).await;
    assert_eq!(known(&store, &second).await.reason, Some(("no_webhook".to_owned(), None)));
    end.set_default_reply(Reply::Accept);
    // The first is tried after its minute; the second would be half a minute later.
    store.advance(seconds(31)).await;
    store.work(&end).await;
    if !Store::RELEASES_EARLY {
        store.advance(seconds(30)).await;
        store.work(&end).await;
    }
    assert_eq!(end.received(), ["1", "2", "1", "2"]);
}

#[tokio::test]
async fn a_worker_that_is_killed_before_it_has_recorded_sends_again() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.crash_during_work(&end, CrashPoint::BeforeRecord).await;
    store.advance(seconds(360)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one", "one"]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.attempts), ("delivered", 2));
}

#[tokio::test]
async fn a_worker_that_is_killed_after_it_has_recorded_does_not_send_again() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.crash_during_work(&end, CrashPoint::AfterRecord).await;
    store.advance(seconds(360)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one"]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.attempts), ("delivered", 1));
}

#[tokio::test]
async fn a_worker_that_is_killed_after_a_death_neither_sends_again_nor_keeps_it_twice() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Reject(422)]);
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.crash_during_work(&end, CrashPoint::AfterRecord).await;
    store.advance(seconds(360)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one"]);
    assert_eq!(store.dead_letters().await.len(), 1);
    assert_eq!(known(&store, &row).await.state, "dead");
}

#[tokio::test]
async fn each_reason_is_counted_and_the_first_and_last_attempt_are_known() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    let began = store.clock().now();
    end.enqueue_replies([
        Reply::Fail(503),
        Reply::RetryAfter(1),
        Reply::Fail(503),
        Reply::Fail(500),
        Reply::NeedsOperator,
    ]);
    take(&store, &row).await;
    for _ in 0..6 {
        store.work(&end).await;
        store.advance(seconds(900)).await;
    }
    let known = known(&store, &row).await;
    let count = |code: &str, status, count| ((code.to_owned(), status), count);
    let expected = [
        count("destination_failed", Some(503), 2),
        count("destination_failed", Some(500), 1),
        count("no_webhook", None, 1),
        count("timed_out", None, 1),
    ];
    assert_eq!(known.failures, expected.into());
    assert_eq!((known.state.as_str(), known.attempts, known.reason), ("delivered", 6, None));
    assert_eq!(known.first_attempt_at, Some(began));
    assert_eq!(known.last_attempt_at, began.checked_add(seconds(5 * 900)).ok());
}

#[tokio::test]
async fn what_fails_for_four_days_is_given_up_and_not_before() {
    let (mut store, end) = store().await;
    end.set_default_reply(Reply::Fail(503));
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.work(&end).await;
    for _ in 0..8 {
        assert_eq!(known(&store, &row).await.state, "waiting");
        store.advance(days(1) / 2).await;
        store.work(&end).await;
    }
    let known = known(&store, &row).await;
    assert_eq!(
        (known.state.as_str(), known.attempts, known.reason),
        ("dead", 9, Some(("destination_failed".to_owned(), Some(503))))
    );
    assert_eq!(store.dead_letters().await.len(), 1);
}
