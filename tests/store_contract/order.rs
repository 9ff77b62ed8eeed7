//! The order of a contact's deliveries, and the independence of contacts.

use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{accept_webhook, clay_row, new_store, one_of_each_kind, seconds};

#[tokio::test]
async fn deliveries_of_a_contact_keep_arrival_order() {
    let (mut store, destination) = new_store().await;
    for number in 0..12 {
        let body = format!("{number}");
        accept_webhook(&store, &clay_row(&store, &format!("msg_{number}"), "ada@example.com", &body)).await;
    }
    store.work(&destination).await;
    assert_eq!(destination.received(), (0..12).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn failing_delivery_blocks_only_its_contact() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::RetryAfter(60)]);
    accept_webhook(&store, &clay_row(&store, "msg_1", "ada@example.com", "ada 1")).await;
    store.work(&destination).await;
    accept_webhook(&store, &clay_row(&store, "msg_2", "ada@example.com", "ada 2")).await;
    accept_webhook(&store, &clay_row(&store, "msg_3", "bob@example.com", "bob")).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["ada 1", "bob"]);
    store.advance(seconds(61)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), ["ada 1", "bob", "ada 1", "ada 2"]);
}

#[tokio::test]
async fn dead_lettered_delivery_does_not_block_its_contact() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Reject(422)]);
    for number in 0..2 {
        accept_webhook(&store, &clay_row(&store, &format!("msg_{number}"), "ada@example.com", &format!("{number}")))
            .await;
    }
    store.work(&destination).await;
    assert_eq!(destination.received(), ["0", "1"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn calls_of_a_contact_keep_arrival_order_whatever_their_kind() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::RetryAfter(60)]);
    let calls = one_of_each_kind(&store, "ada@example.com");
    for call in &calls {
        assert_eq!(store.intake().admit(call, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    }
    let deletion = &one_of_each_kind(&store, "ada@example.com")[4];
    assert_eq!(store.intake().admit(deletion, DeliveryMode::Sync).await.unwrap(), Admission::Queued, "not past them");
    for _ in 0..2 {
        store.work(&destination).await;
        store.advance(seconds(61)).await;
    }
    let received: Vec<_> = destination.received().into_iter().map(|body| body.replace('"', "")).collect();
    let email = "{transactionalId:receipt,email:ada@example.com,dataVariables:{number:1}}";
    assert_eq!(received, ["create", "create", "update", "event", email, "delete", "delete"]);
}
