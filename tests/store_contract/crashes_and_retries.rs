//! What becomes of attempts that fail, and of workers that are killed.

use relay::ports::clock::Clock as _;
use relay_testkit::store_harness::scripted_destination::Answer;
use relay_testkit::store_harness::{AnyStore as _, Moment};

use super::{days, known, row, seconds, store, take};

#[tokio::test]
async fn what_failed_is_not_tried_before_its_time() {
    let (mut store, end) = store().await;
    end.then([Answer::AsksFor(120)]);
    take(&store, &row(&store, "msg_1", "ada@example.com", "one")).await;
    store.work(&end).await;
    store.let_pass(seconds(119)).await;
    store.work(&end).await;
    assert_eq!(end.got().len(), 1);
    store.let_pass(seconds(1)).await;
    store.work(&end).await;
    assert_eq!(end.got().len(), 2);
}

#[tokio::test]
async fn what_the_far_end_asked_to_have_later_is_not_tried_before_though_another_one_gets_through() {
    let (mut store, end) = store().await;
    end.then([Answer::AsksFor(600), Answer::Fails(503)]);
    for (id, contact, body) in [("msg_1", "ada@example.com", "1"), ("msg_2", "bob@example.com", "2")] {
        take(&store, &row(&store, id, contact, body)).await;
        store.work(&end).await;
    }
    store.let_pass(seconds(2)).await;
    store.work(&end).await;
    store.let_pass(seconds(597)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "2", "2"]);
    store.let_pass(seconds(1)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "2", "2", "1"]);
}

#[tokio::test]
async fn what_failed_goes_as_soon_as_another_one_that_had_failed_has_got_through() {
    let (mut store, end) = store().await;
    end.then([Answer::Fails(503), Answer::Fails(503), Answer::Fails(503), Answer::Fails(503), Answer::Fails(503)]);
    take(&store, &row(&store, "msg_1", "ada@example.com", "1")).await;
    for wait in [9, 9, 9, 3] {
        store.work(&end).await;
        store.let_pass(seconds(wait)).await;
    }
    take(&store, &row(&store, "msg_2", "bob@example.com", "2")).await;
    store.work(&end).await;
    store.let_pass(seconds(2)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "1", "1", "1", "2", "2", "1"]);
}

#[tokio::test]
async fn what_waits_for_a_person_goes_as_soon_as_another_one_has_got_through() {
    let (mut store, end) = store().await;
    end.otherwise(Answer::NeedsMending);
    let (first, second) = (row(&store, "msg_1", "ada@example.com", "1"), row(&store, "msg_2", "bob@example.com", "2"));
    take(&store, &first).await;
    store.work(&end).await;
    store.let_pass(seconds(30)).await;
    take(&store, &second).await;
    store.work(&end).await;
    assert_eq!(known(&store, &second).await.reason, Some(("no_webhook".to_owned(), None)));
    end.otherwise(Answer::Takes);
    // The first is tried after its minute; the second would be half a minute later.
    store.let_pass(seconds(31)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "2", "1", "2"]);
}

#[tokio::test]
async fn a_worker_that_is_killed_before_it_has_recorded_sends_again() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.work_and_die(&end, Moment::BeforeTheRecord).await;
    store.let_pass(seconds(360)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["one", "one"]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.attempts), ("delivered", 2));
}

#[tokio::test]
async fn a_worker_that_is_killed_after_it_has_recorded_does_not_send_again() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.work_and_die(&end, Moment::AfterTheRecord).await;
    store.let_pass(seconds(360)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["one"]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.attempts), ("delivered", 1));
}

#[tokio::test]
async fn a_worker_that_is_killed_after_a_death_neither_sends_again_nor_keeps_it_twice() {
    let (mut store, end) = store().await;
    end.then([Answer::Refuses(422)]);
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.work_and_die(&end, Moment::AfterTheRecord).await;
    store.let_pass(seconds(360)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["one"]);
    assert_eq!(store.dead_letters().await.len(), 1);
    assert_eq!(known(&store, &row).await.state, "dead");
}

#[tokio::test]
async fn each_reason_is_counted_and_the_first_and_last_attempt_are_known() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    let began = store.clock().now();
    end.then([Answer::Fails(503), Answer::AsksFor(1), Answer::Fails(503), Answer::Fails(500), Answer::NeedsMending]);
    take(&store, &row).await;
    for _ in 0..6 {
        store.work(&end).await;
        store.let_pass(seconds(900)).await;
    }
    let known = known(&store, &row).await;
    let count = |code: &str, status, count| ((code.to_owned(), status), count);
    let expected = [
        count("far_end_failed", Some(503), 2),
        count("far_end_failed", Some(500), 1),
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
    end.otherwise(Answer::Fails(503));
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    store.work(&end).await;
    for _ in 0..8 {
        assert_eq!(known(&store, &row).await.state, "waiting");
        store.let_pass(days(1) / 2).await;
        store.work(&end).await;
    }
    let known = known(&store, &row).await;
    assert_eq!(
        (known.state.as_str(), known.attempts, known.reason),
        ("dead", 9, Some(("far_end_failed".to_owned(), Some(503))))
    );
    assert_eq!(store.dead_letters().await.len(), 1);
}
