//! Repeated deliveries are recognised.

use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{
    accept_webhook, clay_row, contact_update, days, event_with_caller_key, loops_event, new_store, seconds, snapshot_of,
};

#[tokio::test]
async fn repeated_delivery_is_sent_once_before_and_after_delivery() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    accept_webhook(&store, &row).await;
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    store.advance(days(1)).await;
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one"]);
    let snapshot = snapshot_of(&store, &row).await;
    assert_eq!((snapshot.state.as_str(), snapshot.attempts), ("delivered", 1), "a repeat is no attempt");
    assert!(store.dead_letters().await.is_empty());
}

#[tokio::test]
async fn conflicting_body_under_a_known_id_is_dead_lettered() {
    let (mut store, destination) = new_store().await;
    let first = clay_row(&store, "msg_1", "ada@example.com", "one");
    let other = clay_row(&store, "msg_1", "ada@example.com", "other");
    accept_webhook(&store, &first).await;
    accept_webhook(&store, &other).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one"]);
    assert_eq!(snapshot_of(&store, &first).await.state, "delivered");
    let dead_letters = store.dead_letters().await;
    let reasons: Vec<_> =
        dead_letters.iter().map(|dead_letter| (dead_letter.id.as_str(), dead_letter.reason.as_str())).collect();
    assert_eq!(reasons, [(other.as_conflict().id.as_str(), "id_conflict")]);
}

#[tokio::test]
async fn redriven_conflicting_body_is_sent_once() {
    let (mut store, destination) = new_store().await;
    let first = clay_row(&store, "msg_1", "ada@example.com", "one");
    let other = clay_row(&store, "msg_1", "ada@example.com", "other");
    accept_webhook(&store, &first).await;
    accept_webhook(&store, &other).await;
    store.work(&destination).await;
    store.redrive(&other.as_conflict().id).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one", "other"]);
    assert!(store.dead_letters().await.is_empty());
}

#[tokio::test]
async fn delivered_record_is_known_for_29_days() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    let event = loops_event(&store, "key_1", "ada@example.com", "event");
    accept_webhook(&store, &row).await;
    assert_eq!(store.intake().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 2);
    store.advance(days(29)).await;
    accept_webhook(&store, &row).await;
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 2);
}

#[tokio::test]
async fn delivered_record_expires_after_30_days() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    destination.enqueue_replies([Reply::Fail(503)]);
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    store.advance(days(1)).await;
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &row).await.state, "delivered");
    store.advance(days(31)).await;
    accept_webhook(&store, &clay_row(&store, "msg_2", "bob@example.com", "two")).await;
    store.work(&destination).await;
    store.advance(seconds(1)).await;
    assert_eq!(store.snapshot(&row.id).await, None);
}

#[tokio::test]
async fn repeated_event_is_the_same_delivery_queued_or_delivered() {
    let (mut store, destination) = new_store().await;
    let event = loops_event(&store, "key_1", "ada@example.com", "event");
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
    store.intake().complete(&event, SyncSendResult::Delivered).await.unwrap();
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    let later = super::loops_event(&store, "key_2", "ada@example.com", "later");
    for _ in 0..2 {
        assert_eq!(store.intake().admit(&later, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    }
    store.work(&destination).await;
    assert_eq!(destination.received(), ["later"]);
    assert_eq!(store.intake().admit(&later, DeliveryMode::Async).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test]
async fn admit_unstored_recognizes_a_queued_delivery() {
    let (mut store, destination) = new_store().await;
    for (number, later) in
        [loops_event(&store, "key_1", "ada@example.com", "event"), contact_update(&store, "bob@example.com", "2")]
            .into_iter()
            .enumerate()
    {
        assert_eq!(store.intake().admit(&later, DeliveryMode::Async).await.unwrap(), Admission::Queued);
        assert_eq!(store.intake().admit_without_record(&later).await.unwrap(), Admission::Queued);
        store.work(&destination).await;
        assert_eq!(store.intake().admit_without_record(&later).await.unwrap(), Admission::AlreadyDelivered);
        assert_eq!(destination.received().len(), number + 1);
    }
}

#[tokio::test]
async fn event_sent_unstored_is_recorded_when_settled() {
    let (store, _) = new_store().await;
    let event = loops_event(&store, "key_1", "ada@example.com", "event");
    assert_eq!(store.intake().admit_without_record(&event).await.unwrap(), Admission::SendNow);
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
    store.intake().complete(&event, SyncSendResult::Delivered).await.unwrap();
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test]
async fn conflicting_event_under_known_key_is_dead_lettered_once() {
    let (mut store, destination) = new_store().await;
    let (first, other) =
        (event_with_caller_key(&store, "pro", "Berlin"), event_with_caller_key(&store, "free", "Berlin"));
    let list_dead_letters = async |store: &crate::Store| {
        let dead_letters =
            store.dead_letters().await.into_iter().map(|dead_letter| (dead_letter.id, dead_letter.reason));
        dead_letters.collect::<Vec<_>>()
    };
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for _ in 0..2 {
        assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    }
    let expected = [(other.as_conflicting_event().id.to_string(), "id_conflict".to_owned())];
    assert_eq!(list_dead_letters(&store).await, expected);
    store.work(&destination).await;
    assert_eq!(store.intake().admit(&other, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    assert_eq!((destination.received(), list_dead_letters(&store).await), (vec![body_text(&first)], expected.to_vec()));
    // An operator can still redrive it.
    store.redrive(&other.as_conflicting_event().id).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), [body_text(&first), body_text(&other)]);
}

#[tokio::test]
async fn enriched_row_of_an_event_is_a_duplicate_not_a_conflict() {
    let (mut store, destination) = new_store().await;
    let (first, enriched) =
        (event_with_caller_key(&store, "pro", "Berlin"), event_with_caller_key(&store, "pro", "Hamburg"));
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    assert_eq!(store.intake().admit(&enriched, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(store.intake().admit(&enriched, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    assert_eq!((destination.received(), store.dead_letters().await), (vec![body_text(&first)], Vec::new()));
}

fn body_text(delivery: &relay_core::delivery::Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).into_owned()
}
