//! The contract of any store. A binary that includes this names its store `Store`.

mod accounts;
mod bodies;
mod crashes_and_retries;
mod dead_letters;
mod delivery_status;
mod duplicates;
mod emails;
mod fast_path;
mod keys;
mod order;
mod unknown_outcome;
mod webhook_usage;
mod wrong_clock;

use bytes::Bytes;
use jiff::SignedDuration;
use relay::ports::clock::Clock as _;
use relay::ports::queue::{Enqueued, Queue as _};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use relay_testkit::store_harness::scripted_destination::ScriptedDestination;
use relay_testkit::store_harness::{DeliverySnapshot, StoreHarness};

use crate::Store;

async fn new_store() -> (Store, ScriptedDestination) {
    let store = Store::new().await;
    let destination = ScriptedDestination::new(store.clock());
    (store, destination)
}

fn delivery(store: &Store, id: DeliveryId, contact: &str, kind: DeliveryKind, body: &str) -> Delivery {
    let (contact, received_at) = (ContactKey::from_email(contact), store.clock().now());
    Delivery { id, contact, received_at, kind, body: Bytes::from(body.to_owned()) }
}

/// An event of Loops about a contact, to be sent to a Clay table.
fn clay_row(store: &Store, webhook_id: &str, contact: &str, body: &str) -> Delivery {
    let kind = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: webhook_id.to_owned() };
    delivery(store, DeliveryId::for_webhook("contacts", webhook_id), contact, kind, body)
}

/// An update of a contact for Loops: never the same as another.
fn contact_update(store: &Store, contact: &str, body: &str) -> Delivery {
    let id = DeliveryId::random(&store.clock().new_id());
    delivery(store, id, contact, DeliveryKind::LoopsContact, body)
}

/// An event for Loops with this key.
fn loops_event(store: &Store, key: &str, contact: &str, body: &str) -> Delivery {
    let key = IdempotencyKey::from_stored(key.to_owned());
    delivery(store, DeliveryId::for_event(&key), contact, DeliveryKind::LoopsEvent { key }, body)
}

/// An e-mail for Loops with this key, about a receipt with this number.
fn loops_email(store: &Store, key: &str, contact: &str, number: &str) -> Delivery {
    let key = IdempotencyKey::from_stored(key.to_owned());
    let body =
        format!(r#"{{"transactionalId":"receipt","email":"{contact}","dataVariables":{{"number":"{number}"}}}}"#);
    delivery(store, DeliveryId::for_event(&key), contact, DeliveryKind::LoopsEmail { key }, &body)
}

/// One delivery to Loops of each kind, all of one contact, in this order.
fn one_of_each_kind(store: &Store, contact: &str) -> [Delivery; 5] {
    let random =
        |kind: DeliveryKind, body| delivery(store, DeliveryId::random(&store.clock().new_id()), contact, kind, body);
    [
        random(DeliveryKind::LoopsCreate, "create"),
        random(DeliveryKind::LoopsContact, "update"),
        loops_event(store, "key_1", contact, "event"),
        loops_email(store, "key_2", contact, "1"),
        random(DeliveryKind::LoopsDelete, "delete"),
    ]
}

/// An event under a key of its caller's own.
fn event_with_caller_key(store: &Store, plan: &str, city: &str) -> Delivery {
    let properties = format!(r#"{{"plan":"{plan}"}}"#);
    let body =
        format!(r#"{{"email":"ada@example.com","eventName":"e","city":"{city}","eventProperties":{properties}}}"#);
    loops_event(store, "row-7", "ada@example.com", &body)
}

/// Enqueues an event as the ingress does: another body under a known id is dead-lettered.
async fn accept_webhook(store: &Store, delivery: &Delivery) {
    if store.queue().enqueue(delivery).await.unwrap() == Enqueued::Conflict {
        let reason = Reason::without_status(ReasonCode::IdConflict);
        store.queue().dead_letter(&delivery.as_conflict(), reason).await.unwrap();
    }
}

async fn snapshot_of(store: &Store, delivery: &Delivery) -> DeliverySnapshot {
    store.snapshot(&delivery.id).await.unwrap_or_else(|| panic!("{} is not known", delivery.id))
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}
