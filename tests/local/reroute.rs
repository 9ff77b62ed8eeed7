//! An event that found no route, sent again to a relay that has one.

use std::sync::Arc;

use bytes::Bytes;
use relay::ports::clock::{Clock, SystemClock};
use relay::ports::dead_letters::{DeadLetterQueue as _, RedriveOptions, RedriveOutcome};
use relay::ports::queue::Queue as _;
use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_sqlite::SqliteStore;
use relay_sqlite::admin::SqliteDeadLetters;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{Relay, TempDataDir};
use relay_testkit::{eventually, webhook};

#[tokio::test]
async fn redriven_unrouted_event_reaches_the_new_route() {
    let (folder, clay) = (TempDataDir::new(), MockDestination::start(Reply::status(200)).await);
    let body = webhook::contact_created("ada@example.com");
    let dead_letter = Delivery {
        id: DeliveryId::for_webhook("", "msg_1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: SystemClock.now(),
        kind: DeliveryKind::ClayRow { route: String::new(), webhook_id: "msg_1".to_owned() },
        body: Bytes::from(body.clone()),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = SqliteStore::new(relay_sqlite::open(folder.path(), SystemClock.now()).unwrap(), Arc::clone(&clock));
    store.dead_letter(&dead_letter, Reason::without_status(ReasonCode::NoRoute)).await.unwrap();
    drop(store);
    let mut queue = SqliteDeadLetters::open(folder.path(), clock).unwrap();
    let dead_letters = queue.next_page().await.unwrap();
    assert_eq!(dead_letters[0].id(), dead_letter.id.as_str());
    for outcome in [RedriveOutcome::Redriven, RedriveOutcome::NotFound] {
        assert_eq!(queue.redrive(&dead_letters[0], RedriveOptions::default()).await.unwrap(), outcome);
    }
    drop(queue);

    let relay = Relay::start_in(folder, &[("CLAY_WEBHOOK_URL", &clay.url("/hook"))]).await;
    let delivered = eventually("both delivered", async || {
        let all = relay.deliveries().await;
        (all.len() == 2 && all.iter().all(|delivery| delivery["state"] == "delivered")).then_some(all)
    })
    .await;
    assert_eq!(clay.received().iter().map(|request| request.body.clone()).collect::<Vec<_>>(), [body]);
    assert_ne!(delivered[0]["id"], delivered[1]["id"]);
    // The same webhook, should Loops send it once more, is known.
    webhook::post(relay.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    assert_eq!((relay.deliveries().await.len(), clay.received().len()), (2, 1));
}
