//! What the ledger, the lane and the workers make of calls to AWS that fail in the middle, or whose answers are lost.

use std::time::Duration;

use relay::ports::clock::Clock as _;
use relay::ports::queue::{Admission, DeliveryMode, FastPath as _, FastPathResult, Queue as _};
use relay_aws::ledger::attempts::DeadLettered;
use relay_aws::ledger::deliveries::Ledger;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use relay_testkit::aws_fake::{QUEUES, table};
use relay_testkit::lambda_fake::services::Trouble;
use relay_testkit::store_harness::scripted_destination::{Answer, End};
use relay_testkit::store_harness::{AnyStore as _, Moment};

use crate::Store;

async fn store() -> (Store, End) {
    let store = Store::new().await;
    let end = End::new(store.clock());
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
    FastPathResult::Deferred { attempts: 2, at, reason, firm: false }
}

/// One that goes first, and one that waits behind it.
async fn first_and_second(store: &Store) -> [Delivery; 2] {
    let [first, second] = [update(store, "1"), update(store, "2")];
    assert_eq!(store.lane().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
    assert_eq!(store.lane().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.lane().complete(&first, postponed(store)).await.unwrap();
    [first, second]
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_could_not_be_stored_is_stored_later_without_another_attempt() {
    let (mut store, end) = store().await;
    end.then([Answer::Refuses(422)]);
    store.queue().enqueue(&row(&store, "one")).await.unwrap();
    store.services().trouble("SendMessage", "clay-dead", Trouble::Fails, 3);
    store.work(&end).await;
    assert!(store.dead_letters().await.is_empty());
    store.let_pass(seconds(60)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["one"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_stored_without_an_answer_is_one_letter() {
    let (mut store, end) = store().await;
    end.then([Answer::Refuses(422)]);
    store.queue().enqueue(&row(&store, "one")).await.unwrap();
    store.services().trouble("SendMessage", "clay-dead", Trouble::LosesAnswers, 3);
    store.work(&end).await;
    store.let_pass(seconds(60)).await;
    store.work(&end).await;
    assert_eq!((end.got().len(), store.dead_letters().await.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_goes_first_and_dies_while_its_own_message_is_still_on_its_way_is_not_sent_again() {
    let (mut store, end) = store().await;
    let [first, _] = first_and_second(&store).await;
    store.let_pass(seconds(31)).await;
    end.then([Answer::Refuses(422)]);
    store.work(&end).await;
    // The function that put it there was that slow: it comes after the death.
    store.let_pass(seconds(6)).await;
    store.put_again(&first).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "2"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_death_that_was_recorded_without_an_answer_is_a_new_one() {
    let (store, _) = store().await;
    let ledger = Ledger::new(table(&store.services().account()));
    let (row, now) = (row(&store, "one"), store.clock().now());
    store.services().trouble("UpdateItem", "delivery#", Trouble::LosesAnswers, 1);
    let reason = Reason::without_status(ReasonCode::Expired);
    let buried = ledger.mark_dead(&row, now, reason, now).await.unwrap();
    assert!(matches!(buried, DeadLettered::Dead(_)), "and so it is told: {buried:?}");
    let later = now + Duration::from_secs(1);
    assert!(matches!(
        ledger.mark_dead(&row, now - Duration::from_secs(1), reason, later).await.unwrap(),
        DeadLettered::DiedBefore(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_taken_without_an_answer_is_had() {
    let (store, _) = store().await;
    let update = update(&store, "1");
    store.services().trouble("UpdateItem", "contact#", Trouble::LosesAnswers, 1);
    assert_eq!(store.lane().admit(&update, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_put_on_record_without_an_answer_is_not_taken_for_its_twin() {
    let (store, _) = store().await;
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    let event = delivery(&store, DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key }, "event");
    store.services().trouble("UpdateItem", "delivery#", Trouble::LosesAnswers, 1);
    assert_eq!(store.lane().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
    assert_eq!(store.lane().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::InFlight);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_begun_without_an_answer_is_made_and_counted_once() {
    let (mut store, end) = store().await;
    let row = row(&store, "one");
    store.queue().enqueue(&row).await.unwrap();
    store.services().trouble("UpdateItem", "delivery#", Trouble::LosesAnswers, 1);
    store.work(&end).await;
    assert_eq!(end.got(), ["one"]);
    assert_eq!(store.known(&row.id).await.unwrap().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_has_to_wait_is_stored_though_the_answers_of_the_lane_are_lost() {
    let (mut store, end) = store().await;
    let alone = update(&store, "0");
    assert_eq!(store.lane().admit(&alone, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
    store.services().trouble("UpdateItem", "contact#", Trouble::LosesAnswers, 1);
    store.lane().complete(&alone, postponed(&store)).await.unwrap();
    store.let_pass(seconds(31)).await;
    store.work(&end).await;
    let [first, second] = [update(&store, "1"), update(&store, "2")];
    assert_eq!(store.lane().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
    assert_eq!(store.lane().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.services().trouble("UpdateItem", "first_message", Trouble::LosesAnswers, 1);
    store.lane().complete(&first, postponed(&store)).await.unwrap();
    store.let_pass(seconds(31)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_tries_what_a_worker_may_still_be_sending() {
    let (mut store, end) = store().await;
    store.queue().enqueue(&row(&store, "one")).await.unwrap();
    store.work_and_die(&end, Moment::BeforeTheRecord).await;
    for (passed, tries) in [(59, 1), (1, 2)] {
        store.let_pass(seconds(passed)).await;
        // As where another delivery gets through that had waited for the same.
        store.services().kept().queues.show(QUEUES[0].0);
        store.work(&end).await;
        assert_eq!(end.got().len(), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_is_recorded_as_soon_as_it_can_be() {
    let (mut store, end) = store().await;
    let [row, update] = [row(&store, "row"), update(&store, "update")];
    store.queue().enqueue(&row).await.unwrap();
    assert_eq!(store.lane().admit(&update, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for delivery in [&row, &update] {
        // The SDK asks three times.
        store.services().trouble("UpdateItem", ":standing", Trouble::Fails, 4);
        store.work(&end).await;
        assert_eq!(store.known(&delivery.id).await.unwrap().state, "delivered");
    }
    assert_eq!(end.got(), ["row", "update"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_is_not_sent_again_where_nothing_can_be_recorded_and_its_lane_opens_again() {
    let (mut store, end) = store().await;
    let first = update(&store, "1");
    assert_eq!(store.lane().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.services().trouble("UpdateItem", ":standing", Trouble::Fails, 1000);
    store.services().trouble("UpdateItem", "delivered_through", Trouble::Fails, 1000);
    store.work(&end).await;
    store.services().mend();
    store.let_pass(seconds(601)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1"]);
    let second = update(&store, "2");
    assert_eq!(store.lane().admit(&second, DeliveryMode::Sync).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "2"]);
    let third = update(&store, "3");
    assert_eq!(store.lane().admit(&third, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
}

#[tokio::test(start_paused = true)]
async fn what_goes_first_and_cannot_be_recorded_lets_nothing_past_it() {
    let (mut store, end) = store().await;
    first_and_second(&store).await;
    store.let_pass(seconds(31)).await;
    store.services().trouble("UpdateItem", ":standing", Trouble::Fails, 1000);
    store.work(&end).await;
    assert_eq!(end.got(), ["1"]);
    store.services().mend();
    store.let_pass(seconds(61)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_has_delivered_meanwhile_is_not_forgotten() {
    let (mut store, end) = store().await;
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    let event = delivery(&store, DeliveryId::for_event(&key), DeliveryKind::LoopsEvent { key }, "event");
    assert_eq!(store.lane().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
    // The queue took it, did not say so, and a worker was quick.
    store.let_pass(seconds(41)).await;
    store.put_again(&event).await;
    store.work(&end).await;
    store.lane().complete(&event, FastPathResult::Rejected).await.unwrap();
    assert_eq!(store.lane().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
}

#[tokio::test(start_paused = true)]
async fn what_goes_first_and_takes_long_leaves_the_next_one_its_time() {
    let (mut store, end) = store().await;
    first_and_second(&store).await;
    store.let_pass(seconds(31)).await;
    end.then([Answer::Refuses(422)]);
    // Six calls for the first: then the second would be broken off in the middle.
    store.services().trouble("", "", Trouble::Slow(Duration::from_millis(5500)), 1000);
    store.work(&end).await;
    assert_eq!((end.got(), store.dead_letters().await.len()), (vec!["1".to_owned()], 1));
    store.services().mend();
    store.let_pass(seconds(3)).await;
    store.work(&end).await;
    assert_eq!((end.got(), store.dead_letters().await.len()), (vec!["1".to_owned(), "2".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_and_not_recorded_is_deleted_though_it_cannot_be_seen_who_waited_for_the_same() {
    let (mut store, end) = store().await;
    end.then([Answer::Fails(503)]);
    assert_eq!(store.lane().admit(&update(&store, "1"), DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&end).await;
    store.let_pass(seconds(60)).await;
    store.services().trouble("UpdateItem", ":standing", Trouble::Fails, 1000);
    store.services().trouble("", "", Trouble::Slow(Duration::from_millis(5500)), 1000);
    store.work(&end).await;
    store.services().mend();
    store.let_pass(seconds(600)).await;
    store.work(&end).await;
    assert_eq!(end.got(), ["1", "1"], "it failed, and then it was taken");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_row_is_put_off_does_not_get_into_the_queue_before_it() {
    for (trouble, later) in [(Trouble::Slow(Duration::from_millis(200)), 50), (Trouble::Fails, 1)] {
        let (mut store, end) = store().await;
        let [first, second] = [update(&store, "1"), update(&store, "2")];
        assert_eq!(store.lane().admit(&first, DeliveryMode::Sync).await.unwrap(), Admission::Direct);
        store.services().trouble("SendMessage", "", trouble, 1);
        let put_off = postponed(&store);
        let (settled, admitted) = tokio::join!(store.lane().complete(&first, put_off), async {
            tokio::time::sleep(Duration::from_millis(later)).await;
            store.lane().admit(&second, DeliveryMode::Sync).await
        });
        settled.unwrap();
        assert_eq!(admitted.unwrap(), Admission::Queued);
        for _ in 0..4 {
            store.work(&end).await;
            store.let_pass(seconds(31)).await;
        }
        assert_eq!(end.got(), ["1", "2"]);
    }
}
