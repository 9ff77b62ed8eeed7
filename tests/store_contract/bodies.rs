//! Bodies that a store may not take as they are.

use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{accept_webhook, clay_row, contact_update, new_store};

/// U+FFFE and U+FFFF, which SQS refuses, and others at the edges of what it takes.
const UNUSUAL_TEXT: &str = "{\"name\":\"\u{fffe}\u{ffff}\u{fffd}\u{10ffff}\u{7f}\u{85}\\u0000\"}";

#[tokio::test]
async fn unusual_characters_arrive_unchanged() {
    let (mut store, destination) = new_store().await;
    accept_webhook(&store, &clay_row(&store, "msg_1", "ada@example.com", UNUSUAL_TEXT)).await;
    let update = contact_update(&store, "ada@example.com", UNUSUAL_TEXT);
    assert_eq!(store.intake().admit(&update, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received(), [UNUSUAL_TEXT, UNUSUAL_TEXT]);
}

#[tokio::test]
async fn dead_letter_with_unusual_characters_is_kept() {
    let (mut store, destination) = new_store().await;
    destination.enqueue_replies([Reply::Reject(422)]);
    let row = clay_row(&store, "msg_\u{ffff}", "ada@example.com", UNUSUAL_TEXT);
    accept_webhook(&store, &row).await;
    store.work(&destination).await;
    assert_eq!(store.dead_letters().await.len(), 1);
    store.redrive(&row.id).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), [UNUSUAL_TEXT, UNUSUAL_TEXT]);
}
