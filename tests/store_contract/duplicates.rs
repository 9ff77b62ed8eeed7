//! What is known is not done twice.

use relay::ports::fast_path::{Admission, DeliveryMode, FastPath as _, FastPathResult};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{days, event, known, mail, row, store, take, update};

#[tokio::test]
async fn a_repeated_delivery_is_sent_once_whether_it_comes_before_or_after_it_is_done() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    take(&store, &row).await;
    take(&store, &row).await;
    store.work(&end).await;
    store.advance(days(1)).await;
    take(&store, &row).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one"]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.attempts), ("delivered", 1), "a repeat is no attempt");
    assert!(store.dead_letters().await.is_empty());
}

#[tokio::test]
async fn another_body_under_a_known_id_is_kept_beside_it_and_flagged() {
    let (mut store, end) = store().await;
    let first = row(&store, "msg_1", "ada@example.com", "one");
    let other = row(&store, "msg_1", "ada@example.com", "other");
    take(&store, &first).await;
    take(&store, &other).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one"]);
    assert_eq!(known(&store, &first).await.state, "delivered");
    let letters = store.dead_letters().await;
    let told: Vec<_> = letters.iter().map(|letter| (letter.id.as_str(), letter.reason.as_str())).collect();
    assert_eq!(told, [(other.as_conflict().id.as_str(), "id_conflict")]);
}

#[tokio::test]
async fn another_body_that_a_person_sends_after_all_is_sent_once() {
    let (mut store, end) = store().await;
    let first = row(&store, "msg_1", "ada@example.com", "one");
    let other = row(&store, "msg_1", "ada@example.com", "other");
    take(&store, &first).await;
    take(&store, &other).await;
    store.work(&end).await;
    store.redrive(&other.as_conflict().id).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one", "other"]);
    assert!(store.dead_letters().await.is_empty());
}

#[tokio::test]
async fn what_is_done_is_known_for_twenty_nine_days() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    let event = event(&store, "key_1", "ada@example.com", "event");
    take(&store, &row).await;
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert_eq!(end.received().len(), 2);
    store.advance(days(29)).await;
    take(&store, &row).await;
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    store.work(&end).await;
    assert_eq!(end.received().len(), 2);
}

#[tokio::test]
async fn what_is_done_is_forgotten_after_thirty_days() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.enqueue_replies([Reply::Fail(503)]);
    take(&store, &row).await;
    store.work(&end).await;
    store.advance(days(1)).await;
    store.work(&end).await;
    assert_eq!(known(&store, &row).await.state, "delivered");
    store.advance(days(31)).await;
    assert_eq!(store.snapshot(&row.id).await, None);
}

#[tokio::test]
async fn a_repeated_event_is_the_same_delivery_while_it_waits_and_when_it_is_delivered() {
    let (mut store, end) = store().await;
    let event = event(&store, "key_1", "ada@example.com", "event");
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
    store.fast_path().complete(&event, FastPathResult::Delivered).await.unwrap();
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    let later = super::event(&store, "key_2", "ada@example.com", "later");
    for _ in 0..2 {
        assert_eq!(store.fast_path().admit(&later, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    }
    store.work(&end).await;
    assert_eq!(end.received(), ["later"]);
    assert_eq!(store.fast_path().admit(&later, DeliveryMode::Async).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test]
async fn what_is_stored_after_all_is_known_when_it_is_to_be_sent_as_what_is_not() {
    let (mut store, end) = store().await;
    for (number, later) in [event(&store, "key_1", "ada@example.com", "event"), update(&store, "bob@example.com", "2")]
        .into_iter()
        .enumerate()
    {
        assert_eq!(store.fast_path().admit(&later, DeliveryMode::Async).await.unwrap(), Admission::Queued);
        assert_eq!(store.fast_path().admit_without_record(&later).await.unwrap(), Admission::Queued);
        store.work(&end).await;
        assert_eq!(store.fast_path().admit_without_record(&later).await.unwrap(), Admission::AlreadyDelivered);
        assert_eq!(end.received().len(), number + 1);
    }
}

#[tokio::test]
async fn an_event_that_was_sent_without_being_stored_is_on_record_as_soon_as_that_can_be() {
    let (store, _) = store().await;
    let event = event(&store, "key_1", "ada@example.com", "event");
    assert_eq!(store.fast_path().admit_without_record(&event).await.unwrap(), Admission::SendNow);
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
    store.fast_path().complete(&event, FastPathResult::Delivered).await.unwrap();
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test]
async fn another_event_under_a_known_key_is_answered_as_a_repeat_and_kept_beside_it_once() {
    let (mut store, end) = store().await;
    let (first, other) = (mail(&store, "pro", "Berlin"), mail(&store, "free", "Berlin"));
    let letters = async |store: &crate::Store| {
        let letters = store.dead_letters().await.into_iter().map(|letter| (letter.id, letter.reason));
        letters.collect::<Vec<_>>()
    };
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for _ in 0..2 {
        assert_eq!(store.fast_path().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    }
    let kept = [(other.as_conflicting_event().id.to_string(), "id_conflict".to_owned())];
    assert_eq!(letters(&store).await, kept);
    store.work(&end).await;
    assert_eq!(store.fast_path().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    assert_eq!((end.received(), letters(&store).await), (vec![body(&first)], kept.to_vec()));
    // A person can still send it.
    store.redrive(&other.as_conflicting_event().id).await;
    store.work(&end).await;
    assert_eq!(end.received(), [body(&first), body(&other)]);
}

#[tokio::test]
async fn an_event_whose_row_was_enriched_is_a_repeat_and_no_other_event() {
    let (mut store, end) = store().await;
    let (first, enriched) = (mail(&store, "pro", "Berlin"), mail(&store, "pro", "Hamburg"));
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    assert_eq!(store.fast_path().admit(&enriched, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert_eq!(store.fast_path().admit(&enriched, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    assert_eq!((end.received(), store.dead_letters().await), (vec![body(&first)], Vec::new()));
}

fn body(delivery: &relay_core::delivery::Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).into_owned()
}
