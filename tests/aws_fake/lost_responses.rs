//! What the ledger, the lane and the workers make of calls to AWS that fail in the middle, or whose answers are lost.

use std::time::Duration;

use relay::ports::clock::Clock as _;
use relay::ports::fast_path::{Admission, DeliveryMode, FastPath as _, FastPathResult};
use relay::ports::queue::Queue as _;
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

async fn store() -> (Store, ScriptedDestination) {
    let store = Store::new().await;
    let end = ScriptedDestination::new(store.clock());
    (store, end)
}

fn delivery(store: &Store, id: DeliveryId, cargo: DeliveryKind, body: &'static str) -> Delivery {
    let (contact, received_at) = (ContactKey::from_email("ada@example.com"), store.clock().now());
    Delivery { id, contact, received_at, kind: cargo, body: body.into() }
}

fn row(store: &Store, body: &'static str) -> Delivery {
    let cargo = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: body.to_owned() };
    delivery(store, DeliveryId::for_webhook("contacts", body), cargo, body)
}

fn update(store: &Store, body: &'static str) -> Delivery {
    delivery(store, DeliveryId::random(&store.clock().new_id()), DeliveryKind::LoopsContact, body)
}

fn seconds(seconds: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(seconds)
}

fn postponed(store: &Store) -> FastPathResult {
    let at = store.clock().now().checked_add(seconds(30)).unwrap();
    let reason = Reason { code: ReasonCode::DestinationFailed, status: Some(503) };
    FastPathResult::Deferred { attempts: 2, retry_at: at, reason, no_early_retry: false }
}

/// One that goes first, and one that waits behind it.
async fn first_and_second(store: &Store) -> [Delivery; 2] {
    let [first, second] = [update(store, "1"), update(store, "2")];
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.fast_path().complete(&first, postponed(store)).await.unwrap();
    [first, second]
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_could_not_be_stored_is_stored_later_without_another_attempt() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Reject(422)]);
    store.queue().enqueue(&row(&store, "one")).await.unwrap();
    store.services().inject("SendMessage", "clay-dead", ServiceFault::InternalError, 3);
    store.work(&end).await;
    assert!(store.dead_letters().await.is_empty());
    store.advance(seconds(60)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["one"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_stored_without_an_answer_is_one_letter() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Reject(422)]);
    store.queue().enqueue(&row(&store, "one")).await.unwrap();
    store.services().inject("SendMessage", "clay-dead", ServiceFault::LoseResponse, 3);
    store.work(&end).await;
    store.advance(seconds(60)).await;
    store.work(&end).await;
    assert_eq!((end.received().len(), store.dead_letters().await.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_goes_first_and_dies_while_its_own_message_is_still_on_its_way_is_not_sent_again() {
    let (mut store, end) = store().await;
    let [first, _] = first_and_second(&store).await;
    store.advance(seconds(31)).await;
    end.enqueue_replies([Reply::Reject(422)]);
    store.work(&end).await;
    // The function that put it there was that slow: it comes after the death.
    store.advance(seconds(6)).await;
    store.resend(&first).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "2"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_death_that_was_recorded_without_an_answer_is_a_new_one() {
    let (store, _) = store().await;
    let ledger = Ledger::new(table(&store.services().clients()));
    let (row, now) = (row(&store, "one"), store.clock().now());
    store.services().inject("UpdateItem", "delivery#", ServiceFault::LoseResponse, 1);
    let reason = Reason::without_status(ReasonCode::Expired);
    let buried = ledger.mark_dead(&row, now, reason, now).await.unwrap();
    assert!(matches!(buried, DeadLettered::Marked(_)), "and so it is told: {buried:?}");
    let later = now + Duration::from_secs(1);
    assert!(matches!(
        ledger.mark_dead(&row, now - Duration::from_secs(1), reason, later).await.unwrap(),
        DeadLettered::AlreadyDeadLettered(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_taken_without_an_answer_is_had() {
    let (store, _) = store().await;
    let update = update(&store, "1");
    store.services().inject("UpdateItem", "contact#", ServiceFault::LoseResponse, 1);
    assert_eq!(store.fast_path().admit(&update, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_put_on_record_without_an_answer_is_not_taken_for_its_twin() {
    let (store, _) = store().await;
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    let event = delivery(&store, DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key }, "event");
    store.services().inject("UpdateItem", "delivery#", ServiceFault::LoseResponse, 1);
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_begun_without_an_answer_is_made_and_counted_once() {
    let (mut store, end) = store().await;
    let row = row(&store, "one");
    store.queue().enqueue(&row).await.unwrap();
    store.services().inject("UpdateItem", "delivery#", ServiceFault::LoseResponse, 1);
    store.work(&end).await;
    assert_eq!(end.received(), ["one"]);
    assert_eq!(store.snapshot(&row.id).await.unwrap().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_has_to_wait_is_stored_though_the_answers_of_the_lane_are_lost() {
    let (mut store, end) = store().await;
    let alone = update(&store, "0");
    assert_eq!(store.fast_path().admit(&alone, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.services().inject("UpdateItem", "contact#", ServiceFault::LoseResponse, 1);
    store.fast_path().complete(&alone, postponed(&store)).await.unwrap();
    store.advance(seconds(31)).await;
    store.work(&end).await;
    let [first, second] = [update(&store, "1"), update(&store, "2")];
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.services().inject("UpdateItem", "deferred_message", ServiceFault::LoseResponse, 1);
    store.fast_path().complete(&first, postponed(&store)).await.unwrap();
    store.advance(seconds(31)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_tries_what_a_worker_may_still_be_sending() {
    let (mut store, end) = store().await;
    store.queue().enqueue(&row(&store, "one")).await.unwrap();
    store.crash_during_work(&end, CrashPoint::BeforeRecord).await;
    for (passed, tries) in [(59, 1), (1, 2)] {
        store.advance(seconds(passed)).await;
        // As where another delivery gets through that had waited for the same.
        store.services().state().queues.make_all_visible(QUEUES[0].0);
        store.work(&end).await;
        assert_eq!(end.received().len(), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_is_recorded_as_soon_as_it_can_be() {
    let (mut store, end) = store().await;
    let [row, update] = [row(&store, "row"), update(&store, "update")];
    store.queue().enqueue(&row).await.unwrap();
    assert_eq!(store.fast_path().admit(&update, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for delivery in [&row, &update] {
        // The SDK asks three times.
        store.services().inject("UpdateItem", ":state", ServiceFault::InternalError, 4);
        store.work(&end).await;
        assert_eq!(store.snapshot(&delivery.id).await.unwrap().state, "delivered");
    }
    assert_eq!(end.received(), ["row", "update"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_is_not_sent_again_where_nothing_can_be_recorded_and_its_lane_opens_again() {
    let (mut store, end) = store().await;
    let first = update(&store, "1");
    assert_eq!(store.fast_path().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.services().inject("UpdateItem", ":state", ServiceFault::InternalError, 1000);
    store.services().inject("UpdateItem", "delivered_through", ServiceFault::InternalError, 1000);
    store.work(&end).await;
    store.services().clear();
    store.advance(seconds(601)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1"]);
    let second = update(&store, "2");
    assert_eq!(store.fast_path().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "2"]);
    let third = update(&store, "3");
    assert_eq!(store.fast_path().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test(start_paused = true)]
async fn what_goes_first_and_cannot_be_recorded_lets_nothing_past_it() {
    let (mut store, end) = store().await;
    first_and_second(&store).await;
    store.advance(seconds(31)).await;
    store.services().inject("UpdateItem", ":state", ServiceFault::InternalError, 1000);
    store.work(&end).await;
    assert_eq!(end.received(), ["1"]);
    store.services().clear();
    store.advance(seconds(61)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_has_delivered_meanwhile_is_not_forgotten() {
    let (mut store, end) = store().await;
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    let event = delivery(&store, DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key }, "event");
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    // The queue took it, did not say so, and a worker was quick.
    store.advance(seconds(41)).await;
    store.resend(&event).await;
    store.work(&end).await;
    store.fast_path().complete(&event, FastPathResult::Rejected).await.unwrap();
    assert_eq!(store.fast_path().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test(start_paused = true)]
async fn what_goes_first_and_takes_long_leaves_the_next_one_its_time() {
    let (mut store, end) = store().await;
    first_and_second(&store).await;
    store.advance(seconds(31)).await;
    end.enqueue_replies([Reply::Reject(422)]);
    // Six calls for the first: then the second would be broken off in the middle.
    store.services().inject("", "", ServiceFault::Delay(Duration::from_millis(5500)), 1000);
    store.work(&end).await;
    assert_eq!((end.received(), store.dead_letters().await.len()), (vec!["1".to_owned()], 1));
    store.services().clear();
    store.advance(seconds(3)).await;
    store.work(&end).await;
    assert_eq!((end.received(), store.dead_letters().await.len()), (vec!["1".to_owned(), "2".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_and_not_recorded_is_deleted_though_it_cannot_be_seen_who_waited_for_the_same() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Fail(503)]);
    assert_eq!(store.fast_path().admit(&update(&store, "1"), DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    store.advance(seconds(60)).await;
    store.services().inject("UpdateItem", ":state", ServiceFault::InternalError, 1000);
    store.services().inject("", "", ServiceFault::Delay(Duration::from_millis(5500)), 1000);
    store.work(&end).await;
    store.services().clear();
    store.advance(seconds(600)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["1", "1"], "it failed, and then it was taken");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_row_is_put_off_does_not_get_into_the_queue_before_it() {
    for (trouble, later) in [(ServiceFault::Delay(Duration::from_millis(200)), 50), (ServiceFault::InternalError, 1)] {
        let (mut store, end) = store().await;
        let [first, second] = [update(&store, "1"), update(&store, "2")];
        assert_eq!(store.fast_path().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        store.services().inject("SendMessage", "", trouble, 1);
        let put_off = postponed(&store);
        let (settled, admitted) = tokio::join!(store.fast_path().complete(&first, put_off), async {
            tokio::time::sleep(Duration::from_millis(later)).await;
            store.fast_path().admit(&second, DeliveryMode::Sync).await
        });
        settled.unwrap();
        assert_eq!(admitted.unwrap(), Admission::Queued);
        for _ in 0..4 {
            store.work(&end).await;
            store.advance(seconds(31)).await;
        }
        assert_eq!(end.received(), ["1", "2"]);
    }
}
