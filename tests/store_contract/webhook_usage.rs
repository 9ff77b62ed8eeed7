//! What Clay's webhooks have taken.

use relay::ports::clock::Clock as _;
use relay::ports::webhook_usage::{Submission, WebhookLedger as _, WebhookUsage};
use relay_testkit::store_harness::StoreHarness as _;

use super::{days, store};

#[tokio::test]
async fn what_a_webhook_has_taken_is_counted_and_never_forgotten() {
    let (mut store, _) = store().await;
    for _ in 0..3 {
        store.webhook_usage().record("a", Submission::Accepted, store.clock().now()).await.unwrap();
    }
    store.advance(days(400)).await;
    assert_eq!(store.webhook_usage().usage("a").await.unwrap(), WebhookUsage { accepted: 3, rejected: None });
    assert_eq!(store.webhook_usage().usage("b").await.unwrap(), WebhookUsage::default(), "each for itself");
}

#[tokio::test]
async fn a_webhook_that_refuses_is_remembered_until_it_takes_a_row_again() {
    let (store, _) = store().await;
    let now = store.clock().now();
    store.webhook_usage().record("a", Submission::Accepted, now).await.unwrap();
    store.webhook_usage().record("a", Submission::Rejected(403), now).await.unwrap();
    let refused = WebhookUsage { accepted: 1, rejected: Some((now, 403)) };
    assert_eq!(store.webhook_usage().usage("a").await.unwrap(), refused);
    store.webhook_usage().record("a", Submission::Accepted, now).await.unwrap();
    assert_eq!(store.webhook_usage().usage("a").await.unwrap(), WebhookUsage { accepted: 2, rejected: None });
}
