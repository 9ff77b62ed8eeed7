//! Two events under one key, whichever key it is: none of them vanishes.

use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{new_store, seconds, snapshot_of};
use crate::Store;

/// An event of a contact, under this key or else the derived one.
fn event(store: &Store, name: &str, contact: &str, key: Option<&IdempotencyKey>) -> Delivery {
    let email = format!("{contact}@example.com");
    let key = key.cloned().unwrap_or_else(|| IdempotencyKey::derive(name, Some(&email), None, None));
    Delivery {
        id: DeliveryId::for_event(&key),
        contact: ContactKey::from_email(&email),
        received_at: store.clock().now(),
        kind: DeliveryKind::LoopsEvent { key },
        body: format!(r#"{{"email":"{email}","eventName":"{name}"}}"#).into(),
    }
}

fn key_of(event: &Delivery) -> Option<&IdempotencyKey> {
    event.kind.idempotency_key()
}

async fn admit(store: &Store, event: &Delivery) -> Admission {
    store.intake().admit(event, DeliveryMode::Sync).await.unwrap()
}

async fn dead_letters(store: &Store) -> Vec<(String, String)> {
    let mut dead: Vec<_> = store.dead_letters().await.into_iter().map(|dead| (dead.id, dead.reason)).collect();
    dead.sort_unstable();
    dead
}

fn conflicts<const N: usize>(events: [&Delivery; N]) -> Vec<(String, String)> {
    let ids = events.map(|event| (event.as_conflicting_event().id.to_string(), "id_conflict".to_owned()));
    let mut ids = Vec::from(ids);
    ids.sort_unstable();
    ids
}

fn body(event: &Delivery) -> String {
    String::from_utf8_lossy(&event.body).into_owned()
}

#[tokio::test]
async fn events_of_three_contacts_under_one_key_are_all_kept() {
    let (store, _) = new_store().await;
    let key = IdempotencyKey::from_stored("welcome-2026".to_owned());
    let [ada, bob, cyd] = ["ada", "bob", "cyd"].map(|contact| event(&store, "e", contact, Some(&key)));
    assert_eq!(admit(&store, &ada).await, Admission::SendNow);
    for other in [&bob, &cyd] {
        assert_eq!(admit(&store, other).await, Admission::InFlight, "ada's is being sent");
        assert_eq!(store.intake().admit(other, DeliveryMode::Async).await.unwrap(), Admission::InFlight);
    }
    store.intake().complete(&ada, SyncSendResult::Delivered).await.unwrap();
    for other in [&bob, &cyd, &bob] {
        assert_eq!(admit(&store, other).await, Admission::KeyOfOtherContact);
    }
    assert_eq!(admit(&store, &ada).await, Admission::AlreadyDelivered);
    assert_eq!(dead_letters(&store).await, conflicts([&bob, &cyd]));
}

#[tokio::test]
async fn deferred_event_is_not_replaced_by_another_contacts() {
    let (mut store, destination) = new_store().await;
    let key = IdempotencyKey::from_stored("welcome-2026".to_owned());
    let [ada, bob] = ["ada", "bob"].map(|contact| event(&store, "e", contact, Some(&key)));
    assert_eq!(admit(&store, &ada).await, Admission::SendNow);
    assert_eq!(admit(&store, &bob).await, Admission::InFlight);
    let deferred = SyncSendResult::Deferred {
        attempts: 2,
        retry_at: store.clock().now(),
        reason: Reason { code: ReasonCode::DestinationFailed, status: Some(500) },
        no_early_retry: false,
        outcome_unknown: true,
    };
    store.intake().complete(&ada, deferred).await.unwrap();
    assert_eq!(admit(&store, &bob).await, Admission::KeyOfOtherContact);
    store.work(&destination).await;
    assert_eq!(destination.received(), [body(&ada)]);
    assert_eq!(dead_letters(&store).await, conflicts([&bob]));
}

#[tokio::test]
async fn rejected_event_gives_up_its_key_to_another_contact() {
    let (store, _) = new_store().await;
    let key = IdempotencyKey::from_stored("welcome-2026".to_owned());
    let [ada, bob] = ["ada", "bob"].map(|contact| event(&store, "e", contact, Some(&key)));
    assert_eq!(admit(&store, &ada).await, Admission::SendNow);
    store.intake().complete(&ada, SyncSendResult::Rejected).await.unwrap();
    assert_eq!(admit(&store, &bob).await, Admission::SendNow);
    store.intake().complete(&bob, SyncSendResult::Delivered).await.unwrap();
    assert_eq!(snapshot_of(&store, &bob).await.state, "delivered");
}

#[tokio::test]
async fn event_under_the_derived_key_of_another_is_kept() {
    for (contact, repeat) in [("bob", Admission::KeyOfOtherContact), ("ada", Admission::AlreadyDelivered)] {
        let (mut store, destination) = new_store().await;
        let first = event(&store, "first", "ada", None);
        let second = event(&store, "second", contact, key_of(&first));
        assert_eq!(admit(&store, &first).await, Admission::SendNow);
        store.intake().complete(&first, SyncSendResult::Delivered).await.unwrap();
        assert_eq!(admit(&store, &second).await, repeat);
        assert_eq!(dead_letters(&store).await, conflicts([&second]));
        store.redrive(&second.as_conflicting_event().id).await;
        store.work(&destination).await;
        assert_eq!(destination.received(), [body(&second)]);
    }
}

#[tokio::test]
async fn event_whose_derived_key_was_used_before_is_kept() {
    let (store, _) = new_store().await;
    let later = event(&store, "later", "ada", None);
    let noise = event(&store, "noise", "bob", key_of(&later));
    assert_eq!(admit(&store, &noise).await, Admission::SendNow);
    store.intake().complete(&noise, SyncSendResult::Delivered).await.unwrap();
    assert_eq!(admit(&store, &later).await, Admission::KeyOfOtherContact);
    assert_eq!(dead_letters(&store).await, conflicts([&later]));
    assert_ne!(key_of(&later.as_conflicting_event()), key_of(&later), "Loops would call it a repeat");
}

#[tokio::test]
async fn dead_letter_under_a_derived_key_survives_another_event() {
    let (mut store, destination) = new_store().await;
    let first = event(&store, "first", "ada", None);
    assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    destination.enqueue_replies([Reply::Reject(422)]);
    store.work(&destination).await;
    let second = event(&store, "second", "bob", key_of(&first));
    assert_eq!(admit(&store, &second).await, Admission::SendNow);
    store.intake().complete(&second, SyncSendResult::Delivered).await.unwrap();
    let reasons: Vec<_> = dead_letters(&store).await.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(
        (reasons, snapshot_of(&store, &second).await.state),
        (vec!["clay_rejected".to_owned()], "delivered".to_owned())
    );
}

#[tokio::test]
async fn event_under_the_derived_key_of_a_waiting_one_is_kept() {
    for (contact, repeat) in [("bob", Admission::KeyOfOtherContact), ("ada", Admission::Queued)] {
        let (mut store, destination) = new_store().await;
        let first = event(&store, "first", "ada", None);
        assert_eq!(store.intake().admit(&first, DeliveryMode::Async).await.unwrap(), Admission::Queued);
        let second = event(&store, "second", contact, key_of(&first));
        assert_eq!(admit(&store, &second).await, repeat);
        assert_eq!(dead_letters(&store).await, conflicts([&second]));
        store.advance(seconds(1)).await;
        store.work(&destination).await;
        assert_eq!(destination.received(), [body(&first)]);
    }
}

#[tokio::test]
async fn random_key_conflicts_with_nothing() {
    let (store, _) = new_store().await;
    let derived = event(&store, "e", "ada", None);
    let random = event(&store, "e", "ada", Some(&IdempotencyKey::random("1")));
    for each in [&derived, &random] {
        assert_eq!(admit(&store, each).await, Admission::SendNow);
        store.intake().complete(each, SyncSendResult::Delivered).await.unwrap();
        assert_eq!(admit(&store, each).await, Admission::AlreadyDelivered);
    }
    assert_eq!(dead_letters(&store).await, []);
}
