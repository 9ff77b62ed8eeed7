//! The order of a contact's deliveries, and that nobody waits for another contact.

use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{row, seconds, store, take};

#[tokio::test]
async fn deliveries_of_a_contact_go_in_the_order_in_which_they_came() {
    let (mut store, end) = store().await;
    for number in 0..12 {
        let body = format!("{number}");
        take(&store, &row(&store, &format!("msg_{number}"), "ada@example.com", &body)).await;
    }
    store.work(&end).await;
    assert_eq!(end.received(), (0..12).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_fails_holds_up_its_contact_and_no_other() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::RetryAfter(60)]);
    take(&store, &row(&store, "msg_1", "ada@example.com", "ada 1")).await;
    store.work(&end).await;
    take(&store, &row(&store, "msg_2", "ada@example.com", "ada 2")).await;
    take(&store, &row(&store, "msg_3", "bob@example.com", "bob")).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["ada 1", "bob"]);
    store.advance(seconds(61)).await;
    store.work(&end).await;
    assert_eq!(end.received(), ["ada 1", "bob", "ada 1", "ada 2"]);
}

#[tokio::test]
async fn what_dies_does_not_hold_up_its_contact() {
    let (mut store, end) = store().await;
    end.enqueue_replies([Reply::Reject(422)]);
    for number in 0..2 {
        take(&store, &row(&store, &format!("msg_{number}"), "ada@example.com", &format!("{number}"))).await;
    }
    store.work(&end).await;
    assert_eq!(end.received(), ["0", "1"]);
    assert_eq!(store.dead_letters().await.len(), 1);
}
