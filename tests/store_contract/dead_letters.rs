//! What is kept for a person.

use relay::ports::clock::Clock as _;
use relay::ports::fast_path::{Admission, DeliveryMode, FastPath as _, FastPathResult};
use relay::ports::queue::Queue as _;
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_testkit::store_harness::scripted_destination::Reply;
use relay_testkit::store_harness::{DeadLetterSnapshot, StoreHarness as _};

use super::{known, mail, row, seconds, store, take, update};

#[tokio::test]
async fn a_dead_letter_says_why_when_and_after_how_many_attempts() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.enqueue_replies([Reply::Fail(503), Reply::Reject(422)]);
    take(&store, &row).await;
    store.work(&end).await;
    store.advance(seconds(900)).await;
    store.work(&end).await;
    let letter = DeadLetterSnapshot {
        id: row.id.as_str().to_owned(),
        reason: "clay_rejected".to_owned(),
        status: Some(422),
        attempts: 2,
        received_at: row.received_at,
        died_at: store.clock().now(),
    };
    assert_eq!(store.dead_letters().await, [letter]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.reason), ("dead", Some(("clay_rejected".to_owned(), Some(422)))));
}

#[tokio::test]
async fn what_dies_as_it_comes_is_kept_once_however_often_it_comes() {
    let (store, _) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    for _ in 0..2 {
        store.queue().dead_letter(&row, Reason::without_status(ReasonCode::NoRoute)).await.unwrap();
    }
    let letter = DeadLetterSnapshot {
        id: row.id.as_str().to_owned(),
        reason: "no_route".to_owned(),
        status: None,
        attempts: 0,
        received_at: row.received_at,
        died_at: store.clock().now(),
    };
    assert_eq!(store.dead_letters().await, [letter]);
}

#[tokio::test]
async fn a_dead_letter_that_is_sent_again_and_dies_again_tells_of_all_its_attempts() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.set_default_reply(Reply::Reject(422));
    take(&store, &row).await;
    store.work(&end).await;
    store.advance(seconds(60)).await;
    store.redrive(&row.id).await;
    store.work(&end).await;
    let letters = store.dead_letters().await;
    let told: Vec<_> = letters.iter().map(|letter| (letter.attempts, letter.died_at)).collect();
    assert_eq!(told, [(2, store.clock().now())]);
    assert_eq!(known(&store, &row).await.failures, [(("clay_rejected".to_owned(), Some(422)), 2)].into());
}

#[tokio::test]
async fn a_dead_letter_that_is_sent_again_and_taken_is_done() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.enqueue_replies([Reply::Reject(422)]);
    take(&store, &row).await;
    store.work(&end).await;
    store.redrive(&row.id).await;
    store.work(&end).await;
    assert_eq!(known(&store, &row).await.state, "delivered");
    assert!(store.dead_letters().await.is_empty());
}

/// Stores an event that its end refuses.
async fn dead_mail(
    store: &mut crate::Store,
    end: &relay_testkit::store_harness::scripted_destination::ScriptedDestination,
) -> Delivery {
    let event = mail(store, "pro", "Berlin");
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    end.enqueue_replies([Reply::Reject(422)]);
    store.work(end).await;
    event
}

async fn reasons(store: &crate::Store) -> Vec<String> {
    store.dead_letters().await.into_iter().map(|letter| letter.reason).collect()
}

#[tokio::test]
async fn a_dead_event_that_is_run_again_is_a_dead_letter_until_that_has_come_to_something_else() {
    let (mut store, end) = store().await;
    let event = dead_mail(&mut store, &end).await;
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.fast_path().complete(&event, FastPathResult::Rejected).await.unwrap();
    assert_eq!(reasons(&store).await, ["clay_rejected"], "refused again");
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    // Its caller is gone.
    drop(store.fast_path().guard(&event));
    store.advance(seconds(61)).await;
    let other = update(&store, "bob@example.com", "2");
    assert_eq!(store.fast_path().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(reasons(&store).await, ["clay_rejected"], "never ended");
}

#[tokio::test]
async fn another_event_under_the_key_of_a_dead_one_leaves_its_letter() {
    let (mut store, end) = store().await;
    dead_mail(&mut store, &end).await;
    let other = mail(&store, "free", "Berlin");
    assert_eq!(store.fast_path().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.fast_path().complete(&other, FastPathResult::Delivered).await.unwrap();
    assert_eq!(reasons(&store).await, ["clay_rejected"]);
    assert_eq!(known(&store, &other).await.state, "delivered");
}

#[tokio::test]
async fn an_event_of_which_nobody_knows_what_came_is_sent_when_it_is_run_again() {
    let (mut store, _) = store().await;
    let event = mail(&store, "pro", "Berlin");
    for _ in 0..2 {
        assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        drop(store.fast_path().guard(&event));
        store.advance(seconds(61)).await;
    }
}
