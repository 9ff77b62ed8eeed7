//! Leases that a sandbox with a wrong clock has written.

use relay::ports::queue::Queue as _;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use relay_testkit::aws_fake::QUEUES;
use relay_testkit::store_harness::scripted_destination::ScriptedDestination;
use relay_testkit::store_harness::{CrashPoint, StoreHarness as _};

use crate::Store;

#[tokio::test]
async fn attempt_lease_from_a_clock_that_was_ahead_is_not_believed() {
    let mut store = Store::new().await;
    let destination = ScriptedDestination::new(store.clock());
    let row = Delivery {
        id: DeliveryId::for_webhook("contacts", "msg_1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: relay::ports::clock::Clock::now(store.clock().as_ref()),
        kind: DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() },
        body: "one".into(),
    };
    store.queue().enqueue(&row).await.unwrap();
    let days = jiff::SignedDuration::from_hours(24 * 3);
    store.clock().advance(days);
    store.crash_during_work(&destination, CrashPoint::BeforeRecord).await;
    store.clock().advance(-days);
    // SQS has a clock of its own.
    store.services().state().queues.make_all_visible(QUEUES[0].0);
    store.work(&destination).await;
    assert_eq!(destination.received(), ["one", "one"]);
    assert_eq!(store.snapshot(&row.id).await.unwrap().state, "delivered");
}
