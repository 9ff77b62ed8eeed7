//! Times that count for less than they say: the relay was off, or its clock was wrong.

use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::delivery::{Reason, ReasonCode};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{accept_webhook, clay_row, contact_update, days, new_store, seconds, snapshot_of};

#[tokio::test]
async fn days_off_do_not_count_as_failing() {
    let (mut store, destination) = new_store().await;
    destination.set_default_reply(Reply::Fail(503));
    let row = clay_row(&store, "msg_1", "ada@example.com", "one");
    accept_webhook(&store, &row).await;
    for off in [seconds(2), days(5), days(3)] {
        store.work(&destination).await;
        store.advance(off).await;
    }
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &row).await.state, "waiting");
    destination.set_default_reply(Reply::Accept);
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &row).await.state, "delivered");
}

#[tokio::test]
async fn lock_from_a_clock_that_was_ahead_is_not_believed() {
    let (mut store, _) = new_store().await;
    store.advance(days(30)).await;
    let row = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&row, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    store.kill_callers().await;
    store.clock().advance(-days(30));
    let row = contact_update(&store, "ada@example.com", "2");
    assert_eq!(store.intake().admit(&row, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn wait_from_a_clock_that_was_ahead_is_not_believed() {
    let (mut store, destination) = new_store().await;
    store.advance(days(30)).await;
    let row = contact_update(&store, "ada@example.com", "1");
    assert_eq!(store.intake().admit(&row, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
    let deferred = SyncSendResult::Deferred {
        attempts: 2,
        retry_at: store.clock().now().checked_add(seconds(600)).unwrap(),
        reason: Reason { code: ReasonCode::DestinationFailed, status: Some(503) },
        no_early_retry: true,
        outcome_unknown: false,
    };
    store.intake().complete(&row, deferred).await.unwrap();
    store.clock().advance(-days(30));
    destination.enqueue_replies([Reply::Fail(503)]);
    store.work(&destination).await;
    assert_eq!(destination.received().len(), 1, "at once, and not in thirty days");
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    assert_eq!(snapshot_of(&store, &row).await.state, "delivered");
}
