//! A contact whose item would outgrow DynamoDB's 400 KB.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::ScriptedDestination;

use crate::Store;

fn update(store: &Store, body: &str) -> Delivery {
    let (id, kind) = (DeliveryId::random(&store.clock().new_id()), DeliveryKind::LoopsContact);
    let contact = ContactKey::from_email("ada@example.com");
    Delivery { id, contact, received_at: store.clock().now(), kind, body: body.to_owned().into() }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

async fn new_store() -> (Store, ScriptedDestination) {
    let store = Store::new().await;
    let destination = ScriptedDestination::new(store.clock());
    (store, destination)
}

/// Changes the contact's item by an expression.
async fn change_item(store: &Store, expression: &str, entries: Option<Vec<String>>) {
    let key = format!("contact#{}", ContactKey::from_email("ada@example.com").as_str());
    let request = store.services().clients().dynamodb().update_item().table_name("ledger");
    let request = request.key("pk", AttributeValue::S(key)).update_expression(expression);
    let entries = entries.into_iter().map(|entries| (":waiting".to_owned(), AttributeValue::Ss(entries)));
    request.set_expression_attribute_values(Some(entries.collect())).send().await.unwrap();
}

/// Lists so many deliveries as waiting, as a version without a limit did.
async fn list_as_waiting(store: &Store, count: usize) {
    let at = store.clock().now().as_millisecond();
    let entries = (0..count).map(|number| format!("{at:015}#contact_{number:032}")).collect();
    change_item(store, "ADD waiting :waiting", Some(entries)).await;
}

async fn admit(store: &Store, delivery: &Delivery, mode: DeliveryMode) -> Admission {
    store.intake().admit(delivery, mode).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn contact_with_thousands_of_waiting_rows_takes_more() {
    let (mut store, destination) = new_store().await;
    // 56 bytes each: 20 more would be over 400 KB.
    list_as_waiting(&store, 7300).await;
    let bodies: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for body in &bodies {
        assert_eq!(admit(&store, &update(&store, body), DeliveryMode::Async).await, Admission::Queued);
        store.advance(seconds(1)).await;
    }
    store.work(&destination).await;
    assert_eq!(destination.received(), bodies);
}

#[tokio::test(start_paused = true)]
async fn fast_path_opens_once_a_row_of_ten_minutes_later_ended() {
    let (mut store, destination) = new_store().await;
    list_as_waiting(&store, 1000).await;
    assert_eq!(admit(&store, &update(&store, "unlisted"), DeliveryMode::Async).await, Admission::Queued);
    // The listed ones end.
    change_item(&store, "REMOVE waiting", None).await;
    for (body, elapsed) in [("1", 0), ("2", 600), ("3", 1)] {
        store.advance(seconds(elapsed)).await;
        assert_eq!(admit(&store, &update(&store, body), DeliveryMode::Sync).await, Admission::Queued, "{body}");
        store.work(&destination).await;
    }
    assert_eq!(destination.received(), ["unlisted", "1", "2", "3"]);
    assert_eq!(admit(&store, &update(&store, "4"), DeliveryMode::Sync).await, Admission::SendNow);
}
