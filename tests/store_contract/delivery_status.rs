//! What the caller who has a delivery's id is told of it, and what a dry run finds.

use relay::ports::clock::Clock as _;
use relay::ports::delivery_status::{DeliveryStatus, DeliveryStatusSource as _, Progress};
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, Reason, ReasonCode};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::{REFUSAL, Reply};

use super::{loops_event, new_store, one_of_each_kind, seconds};
use crate::Store;

async fn status_of(store: &Store, delivery: &Delivery) -> Option<DeliveryStatus> {
    store.statuses().delivery_status(&delivery.id).await.unwrap()
}

async fn progress_of(store: &Store, delivery: &Delivery) -> Option<Progress> {
    status_of(store, delivery).await.map(|status| status.progress)
}

async fn enqueue(store: &Store, delivery: &Delivery) {
    assert_eq!(store.intake().admit(delivery, DeliveryMode::Async).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn status_of_a_queued_row_ends_as_delivered() {
    let (mut store, destination) = new_store().await;
    let rows = one_of_each_kind(&store, "ada@example.com");
    let queued_at = store.clock().now();
    for row in &rows {
        enqueue(&store, row).await;
        let status = status_of(&store, row).await.unwrap();
        assert_eq!((status.progress, status.since, status.attempts), (Progress::Queued, queued_at, 0), "{row:?}");
    }
    store.advance(seconds(60)).await;
    store.work(&destination).await;
    for row in &rows {
        let delivered = DeliveryStatus {
            progress: Progress::Delivered,
            since: store.clock().now(),
            attempts: 1,
            reason: None,
            message: None,
        };
        assert_eq!(status_of(&store, row).await, Some(delivered), "{row:?}");
    }
}

#[tokio::test]
async fn status_of_a_refused_row_has_the_destinations_sentence() {
    for number in 0..5 {
        let (mut store, destination) = new_store().await;
        let row = one_of_each_kind(&store, "ada@example.com")[number].clone();
        enqueue(&store, &row).await;
        destination.enqueue_replies([Reply::Reject(422)]);
        store.work(&destination).await;
        let dead = DeliveryStatus {
            progress: Progress::Dead,
            since: store.clock().now(),
            attempts: 1,
            reason: Some(Reason { code: ReasonCode::ClayRejected, status: Some(422) }),
            message: Some(REFUSAL.to_owned()),
        };
        assert_eq!(status_of(&store, &row).await, Some(dead), "{row:?}");
    }
}

#[tokio::test]
async fn redriven_row_that_fails_has_no_sentence() {
    let (mut store, destination) = new_store().await;
    let row = loops_event(&store, "key_1", "ada@example.com", "event");
    enqueue(&store, &row).await;
    destination.enqueue_replies([Reply::Reject(422), Reply::Fail(503)]);
    store.work(&destination).await;
    store.advance(seconds(60)).await;
    store.redrive(&row.id).await;
    store.work(&destination).await;
    let status = status_of(&store, &row).await.unwrap();
    assert_eq!((status.progress, status.message), (Progress::Queued, None));
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    assert_eq!(progress_of(&store, &row).await, Some(Progress::Delivered));
}

#[tokio::test]
async fn status_tells_what_is_held_and_what_was_there_before() {
    let (mut store, destination) = new_store().await;
    let row = loops_event(&store, "key_1", "ada@example.com", "event");
    enqueue(&store, &row).await;
    destination.enqueue_replies([Reply::NeedsOperator, Reply::Duplicate]);
    store.work(&destination).await;
    let held_since = store.clock().now();
    let status = status_of(&store, &row).await.unwrap();
    assert_eq!((status.progress, status.since), (Progress::Held, held_since));
    assert_eq!(status.reason.map(|reason| reason.code), Some(ReasonCode::NoWebhook));
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    assert_eq!(progress_of(&store, &row).await, Some(Progress::Duplicate));
}

#[tokio::test]
async fn unknown_row_and_one_whose_caller_waits_have_no_status() {
    let (store, _) = new_store().await;
    for row in one_of_each_kind(&store, "ada@example.com") {
        assert_eq!(store.intake().admit(&row, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        assert_eq!(status_of(&store, &row).await, None, "{row:?}");
        store.intake().complete(&row, SyncSendResult::Rejected).await.unwrap();
        assert_eq!(status_of(&store, &row).await, None, "{row:?}");
    }
    assert_eq!(store.statuses().delivery_status(&DeliveryId::random("unknown")).await.unwrap(), None);
}

#[tokio::test]
async fn dry_run_finds_what_was_sent_or_waits_and_changes_nothing() {
    for row in one_of_each_kind(&new_store().await.0, "ada@example.com") {
        let has_key = row.kind.idempotency_key().is_some();
        let (mut store, destination) = new_store().await;
        let preview = async |store: &Store, row: &Delivery| store.intake().preview(row).await.unwrap();
        let is_duplicate = async |store: &Store| preview(store, &row).await != Admission::SendNow;
        assert!(!is_duplicate(&store).await, "{row:?}");
        assert_eq!(store.snapshot(&row.id).await, None, "{row:?}");
        assert_eq!(store.intake().admit(&row, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        assert_eq!(is_duplicate(&store).await, has_key, "its caller waits: {row:?}");
        store.intake().complete(&row, SyncSendResult::Rejected).await.unwrap();
        enqueue(&store, &row).await;
        assert_eq!(is_duplicate(&store).await, has_key, "it waits: {row:?}");
        destination.enqueue_replies([Reply::Reject(422)]);
        store.work(&destination).await;
        assert!(!is_duplicate(&store).await, "it can be run again: {row:?}");
        store.redrive(&row.id).await;
        store.work(&destination).await;
        assert_eq!(is_duplicate(&store).await, has_key, "it is delivered: {row:?}");
        let other = Delivery { contact: ContactKey::from_email("bob@example.com"), ..row.clone() };
        let expected = if has_key { Admission::KeyOfOtherContact } else { Admission::SendNow };
        assert_eq!(preview(&store, &other).await, expected, "{row:?}");
        assert_eq!((destination.received().len(), store.dead_letters().await.len()), (2, 0), "{row:?}");
    }
}
