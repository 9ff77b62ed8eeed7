//! Ledger, contact lock and workers when calls to AWS fail in the middle, or when their responses are lost.

use std::time::Duration;

use relay::ports::clock::Clock as _;
use relay::ports::queue::Queue as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_aws::ledger::attempts::DeadLettered;
use relay_aws::ledger::deliveries::Ledger;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use relay_testkit::aws_fake::{QUEUES, table};
use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::store_harness::scripted_destination::{Reply, ScriptedDestination};
use relay_testkit::store_harness::{CrashPoint, StoreHarness as _};

use crate::Store;

/// Part of the update that records a delivered outcome, and of no update before it.
const RECORD_OF_DELIVERED: &str = "lease_until, attempt_until";

async fn new_store() -> (Store, ScriptedDestination) {
    let store = Store::new().await;
    let destination = ScriptedDestination::new(store.clock());
    (store, destination)
}

fn delivery(store: &Store, id: DeliveryId, kind: DeliveryKind, body: &'static str) -> Delivery {
    let (contact, received_at) = (ContactKey::from_email("ada@example.com"), store.clock().now());
    Delivery { id, contact, received_at, kind, body: body.into() }
}

fn clay_row(store: &Store, body: &'static str) -> Delivery {
    let kind = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: body.to_owned() };
    delivery(store, DeliveryId::for_webhook("contacts", body), kind, body)
}

fn contact_update(store: &Store, body: &'static str) -> Delivery {
    delivery(store, DeliveryId::random(&store.clock().new_id()), DeliveryKind::LoopsContact, body)
}

fn seconds(seconds: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(seconds)
}

fn deferral(store: &Store) -> SyncSendResult {
    let at = store.clock().now().checked_add(seconds(30)).unwrap();
    let reason = Reason { code: ReasonCode::DestinationFailed, status: Some(503) };
    SyncSendResult::Deferred { attempts: 2, retry_at: at, reason, no_early_retry: false, outcome_unknown: true }
}

/// A deferred update, and one queued behind it.
async fn deferred_and_queued_update(store: &Store) -> [Delivery; 2] {
    let [first, second] = [contact_update(store, "1"), contact_update(store, "2")];
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.intake().complete(&first, deferral(store)).await.unwrap();
    [first, second]
}

#[tokio::test(start_paused = true)]
async fn failed_dlq_send_is_repeated_without_another_attempt() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Reject(422)]);
    store.queue().enqueue(&clay_row(&store, "one")).await.unwrap();
    store.services().inject("SendMessage", "clay-dead", ServiceFault::InternalError, 3);
    store.work(&destination).await;
    assert!(store.dead_letters().await.is_empty());
    store.advance(seconds(60)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dlq_send_with_lost_response_is_deduplicated() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Reject(422)]);
    store.queue().enqueue(&clay_row(&store, "one")).await.unwrap();
    store.services().inject("SendMessage", "clay-dead", ServiceFault::LoseResponse, 3);
    store.work(&destination).await;
    store.advance(seconds(60)).await;
    store.work(&destination).await;
    assert_eq!((destination.received().len(), store.dead_letters().await.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn deferred_delivery_dead_before_its_message_is_not_resent() {
    let (mut store, destination) = new_store().await;
    let [first, _] = deferred_and_queued_update(&store).await;
    store.advance(seconds(31)).await;
    destination.enqueue_replies([Reply::Reject(422)]);
    store.work(&destination).await;
    // The function that enqueued it was that slow: its message is newer than the dead-letter record.
    store.advance(seconds(6)).await;
    store.resend(&first).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dead_letter_record_with_lost_response_is_not_duplicate() {
    let (store, _) = new_store().await;
    let ledger = Ledger::new(table(&store.services().clients()));
    let (row, now) = (clay_row(&store, "one"), store.clock().now());
    store.services().inject("UpdateItem", "delivery#", ServiceFault::LoseResponse, 1);
    let reason = Reason::without_status(ReasonCode::Expired);
    let outcome = ledger.mark_dead(&row, now, reason, now).await.unwrap();
    assert!(matches!(outcome, DeadLettered::Marked(_)), "and is reported so: {outcome:?}");
    let later = now + Duration::from_secs(1);
    assert!(matches!(
        ledger.mark_dead(&row, now - Duration::from_secs(1), reason, later).await.unwrap(),
        DeadLettered::AlreadyDeadLettered(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn lock_acquired_despite_lost_response() {
    let (store, _) = new_store().await;
    let update = contact_update(&store, "1");
    store.services().inject("UpdateItem", "contact#", ServiceFault::LoseResponse, 1);
    assert_eq!(store.intake().admit(&update, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test(start_paused = true)]
async fn begin_with_lost_response_is_not_treated_as_in_flight() {
    let (store, _) = new_store().await;
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    let event = delivery(&store, DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key }, "event");
    store.services().inject("UpdateItem", "delivery#", ServiceFault::LoseResponse, 1);
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
}

#[tokio::test(start_paused = true)]
async fn attempt_begun_with_lost_response_is_counted_once() {
    let (mut store, destination) = new_store().await;
    let row = clay_row(&store, "one");
    store.queue().enqueue(&row).await.unwrap();
    store.services().inject("UpdateItem", "delivery#", ServiceFault::LoseResponse, 1);
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one"]);
    assert_eq!(store.snapshot(&row.id).await.unwrap().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn deferred_row_is_stored_despite_lost_lock_responses() {
    let (mut store, destination) = new_store().await;
    let lone_update = contact_update(&store, "0");
    assert_eq!(store.intake().admit(&lone_update, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.services().inject("UpdateItem", "contact#", ServiceFault::LoseResponse, 1);
    store.intake().complete(&lone_update, deferral(&store)).await.unwrap();
    store.advance(seconds(31)).await;
    store.work(&destination).await;
    let [first, second] = [contact_update(&store, "1"), contact_update(&store, "2")];
    assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.services().inject("UpdateItem", "deferred_message", ServiceFault::LoseResponse, 1);
    store.intake().complete(&first, deferral(&store)).await.unwrap();
    store.advance(seconds(31)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn end_of_a_delivery_with_lost_response_opens_the_fast_path() {
    let (mut store, destination) = new_store().await;
    let first = contact_update(&store, "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.services().inject("UpdateItem", "delivered_through", ServiceFault::LoseResponse, 1);
    store.work(&destination).await;
    let second = contact_update(&store, "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(destination.received(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn end_of_a_deferred_delivery_survives_failed_and_lost_writes() {
    // The first write finds that it is the deferred one, and the second ends it.
    for (fault, times) in
        [(ServiceFault::LoseResponse, 1), (ServiceFault::LoseResponse, 2), (ServiceFault::InternalError, 1)]
    {
        let (mut store, destination) = new_store().await;
        deferred_and_queued_update(&store).await;
        store.advance(seconds(31)).await;
        store.services().inject("UpdateItem", "delivered_through", fault, times);
        store.work(&destination).await;
        assert_eq!(destination.received(), ["1", "2"]);
        let third = contact_update(&store, "3");
        assert_eq!(store.intake().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    }
}

#[tokio::test(start_paused = true)]
async fn worker_killed_before_the_end_in_its_contact_does_not_resend() {
    let (mut store, destination) = new_store().await;
    let first = contact_update(&store, "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    // The delivery's own record is written, and that of its contact is not: the message comes back.
    store.services().inject("UpdateItem", "delivered_through", ServiceFault::InternalError, 4);
    store.work(&destination).await;
    let second = contact_update(&store, "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.services().clear();
    store.advance(seconds(360)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2"]);
    let third = contact_update(&store, "3");
    assert_eq!(store.intake().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test(start_paused = true)]
async fn attempt_lease_excludes_second_worker() {
    let (mut store, destination) = new_store().await;
    store.queue().enqueue(&clay_row(&store, "one")).await.unwrap();
    store.crash_during_work(&destination, CrashPoint::BeforeRecord).await;
    for (elapsed_secs, expected_attempts) in [(59, 1), (1, 2)] {
        store.advance(seconds(elapsed_secs)).await;
        // Made visible early, so that only the lease of the attempt excludes the second worker.
        store.services().state().queues.make_all_visible(QUEUES[0].0);
        store.work(&destination).await;
        assert_eq!(destination.received().len(), expected_attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn delivered_outcome_is_recorded_after_failed_writes() {
    let (mut store, destination) = new_store().await;
    let [row, update] = [clay_row(&store, "row"), contact_update(&store, "update")];
    store.queue().enqueue(&row).await.unwrap();
    assert_eq!(store.intake().admit(&update, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for delivery in [&row, &update] {
        // The SDK asks three times.
        store.services().inject("UpdateItem", RECORD_OF_DELIVERED, ServiceFault::InternalError, 4);
        store.work(&destination).await;
        assert_eq!(store.snapshot(&delivery.id).await.unwrap().state, "delivered");
    }
    assert_eq!(destination.received(), ["row", "update"]);
}

#[tokio::test(start_paused = true)]
async fn unrecorded_delivery_is_not_resent_and_unlocks_contact() {
    let (mut store, destination) = new_store().await;
    let first = contact_update(&store, "1");
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.services().inject("UpdateItem", RECORD_OF_DELIVERED, ServiceFault::InternalError, 1000);
    store.services().inject("UpdateItem", "delivered_through", ServiceFault::InternalError, 1000);
    store.work(&destination).await;
    store.services().clear();
    store.advance(seconds(601)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1"]);
    let second = contact_update(&store, "2");
    assert_eq!(store.intake().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "2"]);
    let third = contact_update(&store, "3");
    assert_eq!(store.intake().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test(start_paused = true)]
async fn unrecorded_deferred_delivery_blocks_its_contact() {
    let (mut store, destination) = new_store().await;
    deferred_and_queued_update(&store).await;
    store.advance(seconds(31)).await;
    store.services().inject("UpdateItem", RECORD_OF_DELIVERED, ServiceFault::InternalError, 1000);
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1"]);
    store.services().clear();
    store.advance(seconds(61)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn delivery_by_worker_survives_fast_path_rejection() {
    let (mut store, destination) = new_store().await;
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    let event = delivery(&store, DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key }, "event");
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    // The queue accepted it, the response was lost, and a worker was quick.
    store.advance(seconds(41)).await;
    store.resend(&event).await;
    store.work(&destination).await;
    store.intake().complete(&event, SyncSendResult::Rejected).await.unwrap();
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test(start_paused = true)]
async fn slow_deferred_delivery_leaves_time_for_the_next() {
    let (mut store, destination) = new_store().await;
    deferred_and_queued_update(&store).await;
    store.advance(seconds(31)).await;
    destination.enqueue_replies([Reply::Reject(422)]);
    // Six calls for the first: then the second would be broken off in the middle.
    store.services().inject("", "", ServiceFault::Delay(Duration::from_millis(5500)), 1000);
    store.work(&destination).await;
    assert_eq!((destination.received(), store.dead_letters().await.len()), (vec!["1".to_owned()], 1));
    store.services().clear();
    store.advance(seconds(3)).await;
    store.work(&destination).await;
    assert_eq!((destination.received(), store.dead_letters().await.len()), (vec!["1".to_owned(), "2".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn unrecorded_delivery_is_deleted_when_release_query_fails() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Fail(503)]);
    assert_eq!(
        store.intake().admit(&contact_update(&store, "1"), DeliveryMode::Async).await.unwrap(),
        Admission::Queued
    );
    store.work(&destination).await;
    store.advance(seconds(60)).await;
    store.services().inject("UpdateItem", RECORD_OF_DELIVERED, ServiceFault::InternalError, 1000);
    store.services().inject("", "", ServiceFault::Delay(Duration::from_millis(5500)), 1000);
    store.work(&destination).await;
    store.services().clear();
    store.advance(seconds(600)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["1", "1"], "it failed, and then it was taken");
}

#[tokio::test(start_paused = true)]
async fn deferred_row_precedes_rows_arriving_meanwhile() {
    for (fault, delay_millis) in
        [(ServiceFault::Delay(Duration::from_millis(200)), 50), (ServiceFault::InternalError, 1)]
    {
        let (mut store, destination) = new_store().await;
        let [first, second] = [contact_update(&store, "1"), contact_update(&store, "2")];
        assert_eq!(store.intake().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        store.services().inject("SendMessage", "", fault, 1);
        let first_deferral = deferral(&store);
        let (settled, admitted) = tokio::join!(store.intake().complete(&first, first_deferral), async {
            tokio::time::sleep(Duration::from_millis(delay_millis)).await;
            store.intake().admit(&second, DeliveryMode::Sync).await
        });
        settled.unwrap();
        assert_eq!(admitted.unwrap(), Admission::Queued);
        for _ in 0..4 {
            store.work(&destination).await;
            store.advance(seconds(31)).await;
        }
        assert_eq!(destination.received(), ["1", "2"]);
    }
}
