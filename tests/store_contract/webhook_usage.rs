//! Usage counts of Clay's webhooks.

use relay::ports::clock::Clock as _;
use relay::ports::webhook_usage::{Submission, WebhookLedger as _, WebhookUsage};
use relay_testkit::store_harness::StoreHarness as _;

use super::{days, new_store};

#[tokio::test]
async fn accepted_rows_of_a_webhook_are_counted_without_expiry() {
    let (mut store, _) = new_store().await;
    for _ in 0..3 {
        store.webhook_usage().record("a", Submission::Accepted, store.clock().now()).await.unwrap();
    }
    store.webhook_usage().flush(store.clock().now()).await.unwrap();
    store.advance(days(400)).await;
    assert_eq!(store.webhook_usage().usage("a").await.unwrap(), WebhookUsage { accepted: 3, rejected: None });
    assert_eq!(store.webhook_usage().usage("b").await.unwrap(), WebhookUsage::default(), "each for itself");
}

#[tokio::test]
async fn webhook_rejection_is_remembered_until_next_acceptance() {
    let (store, _) = new_store().await;
    let now = store.clock().now();
    store.webhook_usage().record("a", Submission::Accepted, now).await.unwrap();
    store.webhook_usage().record("a", Submission::Rejected(403), now).await.unwrap();
    let rejected = WebhookUsage { accepted: 1, rejected: Some((now, 403)) };
    assert_eq!(store.webhook_usage().usage("a").await.unwrap(), rejected);
    store.webhook_usage().record("a", Submission::Accepted, now).await.unwrap();
    assert_eq!(store.webhook_usage().usage("a").await.unwrap(), WebhookUsage { accepted: 2, rejected: None });
}
