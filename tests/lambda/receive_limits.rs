//! Messages near SQS' receive limit: a worker dead-letters them before, with a reason.

use bytes::Bytes;
use jiff::SignedDuration;
use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use relay_core::idempotency::IdempotencyKey;
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::{Reply, ScriptedDestination};

use crate::Store;

fn event(store: &Store) -> Delivery {
    let key = IdempotencyKey::from_stored("key_1".to_owned());
    Delivery {
        id: DeliveryId::for_event(&key),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: store.clock().now(),
        kind: DeliveryKind::LoopsEvent { key },
        body: Bytes::from_static(b"event"),
    }
}

async fn dead_letter_reasons(store: &Store) -> Vec<(String, u32)> {
    store.dead_letters().await.into_iter().map(|dead_letter| (dead_letter.reason, dead_letter.attempts)).collect()
}

#[tokio::test]
async fn message_over_receive_limit_is_dead_lettered_and_rerunnable() {
    let mut store = Store::new().await;
    let (destination, event) = (ScriptedDestination::new(store.clock()), event(&store));
    assert_eq!(store.intake().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.receive_count = Some(950);
    store.work(&destination).await;
    assert!(destination.received().is_empty());
    assert_eq!(dead_letter_reasons(&store).await, [("expired".to_owned(), 0)]);
    let snapshot = store.snapshot(&event.id).await.unwrap();
    assert_eq!((snapshot.state.as_str(), snapshot.reason), ("dead", Some(("expired".to_owned(), None))));
    store.receive_count = None;
    assert_eq!(store.intake().admit_without_record(&event).await.unwrap(), Admission::SendNow, "nothing of it waits");
    store.intake().complete(&event, SyncSendResult::Rejected).await.unwrap();
    assert_eq!(store.intake().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received(), ["event"]);
}

#[tokio::test]
async fn delivered_message_over_receive_limit_is_not_dead_lettered() {
    let mut store = Store::new().await;
    let (destination, event) = (ScriptedDestination::new(store.clock()), event(&store));
    assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.intake().complete(&event, SyncSendResult::Delivered).await.unwrap();
    store.resend(&event).await;
    store.receive_count = Some(950);
    store.work(&destination).await;
    assert!(dead_letter_reasons(&store).await.is_empty() && destination.received().is_empty());
    assert_eq!(store.snapshot(&event.id).await.unwrap().state, "delivered");
}

#[tokio::test]
async fn held_message_expires_after_ten_days() {
    let mut store = Store::new().await;
    let (destination, event) = (ScriptedDestination::new(store.clock()), event(&store));
    destination.set_default_reply(Reply::NeedsOperator);
    assert_eq!(store.intake().admit(&event, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    for _ in 0..40 {
        store.work(&destination).await;
        assert_eq!(store.snapshot(&event.id).await.unwrap().state, "waiting");
        store.advance(SignedDuration::from_hours(6)).await;
    }
    store.advance(SignedDuration::from_mins(1)).await;
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 40);
    assert_eq!(dead_letter_reasons(&store).await, [("expired".to_owned(), 40)]);
}
