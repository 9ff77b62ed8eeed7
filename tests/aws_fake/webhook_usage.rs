//! The usage of Clay's webhooks, as a worker counts it for its batches.

use std::time::Duration;

use relay::ports::clock::Clock as _;
use relay::ports::webhook_usage::{Submission, WebhookLedger as _, WebhookUsage};
use relay_aws::ledger::webhook_usage::{BatchedWebhookLedger, read_usage};
use relay_testkit::aws_fake::table;
use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::store_harness::StoreHarness as _;

use crate::Store;

/// Another worker of the same queue.
fn worker(store: &Store) -> BatchedWebhookLedger {
    BatchedWebhookLedger::new(table(&store.services().clients()))
}

async fn accept(worker: &BatchedWebhookLedger, store: &Store, rows: u32) {
    for _ in 0..rows {
        worker.record("a", Submission::Accepted, store.clock().now()).await.unwrap();
    }
}

async fn stored(store: &Store) -> WebhookUsage {
    read_usage(&table(&store.services().clients()), "a").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_batch_are_counted_with_one_write() {
    let store = Store::new().await;
    let worker = worker(&store);
    accept(&worker, &store, 10).await;
    assert_eq!(worker.usage("a").await.unwrap().accepted, 10, "this worker knows them already");
    // The SDK would ask three times.
    store.services().inject("UpdateItem", "webhook#", ServiceFault::InternalError, 3);
    worker.flush(store.clock().now()).await.unwrap_err();
    assert_eq!(stored(&store).await.accepted, 0);
    worker.flush(store.clock().now()).await.unwrap();
    assert_eq!(stored(&store).await.accepted, 10);
    store.services().inject("UpdateItem", "webhook#", ServiceFault::InternalError, 1000);
    worker.flush(store.clock().now()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_workers_count_every_row_of_both() {
    let store = Store::new().await;
    let workers = [worker(&store), worker(&store)];
    for _ in 0..3 {
        for worker in &workers {
            accept(worker, &store, 4).await;
            worker.flush(store.clock().now()).await.unwrap();
        }
    }
    assert_eq!(stored(&store).await.accepted, 24);
}

#[tokio::test(start_paused = true)]
async fn rejection_is_stored_with_the_rows_before_it() {
    let store = Store::new().await;
    let worker = worker(&store);
    accept(&worker, &store, 2).await;
    let now = store.clock().now();
    worker.record("a", Submission::Rejected(403), now).await.unwrap();
    worker.flush(now).await.unwrap();
    assert_eq!(stored(&store).await, WebhookUsage { accepted: 2, rejected: Some((now, 403)) });
}

#[tokio::test(start_paused = true)]
async fn rejection_seen_by_another_worker_is_known_at_once() {
    let store = Store::new().await;
    let (first, second, now) = (worker(&store), worker(&store), store.clock().now());
    assert_eq!(second.usage("a").await.unwrap().rejected, None);
    first.record("a", Submission::Rejected(403), now).await.unwrap();
    assert!(second.usage("a").await.unwrap().rejected.is_some());
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_flush_that_is_broken_off_stay_uncounted() {
    let store = Store::new().await;
    let worker = worker(&store);
    accept(&worker, &store, 10).await;
    store.services().inject("UpdateItem", "webhook#", ServiceFault::Delay(Duration::from_secs(3600)), 1);
    tokio::time::timeout(Duration::from_secs(1), worker.flush(store.clock().now())).await.unwrap_err();
    assert_eq!(worker.usage("a").await.unwrap().accepted, 10);
    store.services().clear();
    worker.flush(store.clock().now()).await.unwrap();
    assert_eq!(stored(&store).await.accepted, 10);
}

#[tokio::test(start_paused = true)]
async fn rows_count_double_at_most_if_an_answer_is_lost() {
    let store = Store::new().await;
    let worker = worker(&store);
    accept(&worker, &store, 10).await;
    store.services().inject("UpdateItem", "webhook#", ServiceFault::LoseResponse, 1);
    worker.flush(store.clock().now()).await.unwrap();
    let accepted = stored(&store).await.accepted;
    assert!((10..=20).contains(&accepted), "{accepted}");
}

#[tokio::test(start_paused = true)]
async fn failed_record_of_a_rejection_removes_no_later_one() {
    let store = Store::new().await;
    let (first, second, now) = (worker(&store), worker(&store), store.clock().now());
    // The SDK asks three times.
    store.services().inject("UpdateItem", "webhook#", ServiceFault::InternalError, 3);
    first.record("a", Submission::Rejected(403), now).await.unwrap_err();
    second.record("a", Submission::Rejected(403), now).await.unwrap();
    first.flush(now).await.unwrap();
    assert_eq!(stored(&store).await.rejected, Some((now, 403)));
}

#[tokio::test(start_paused = true)]
async fn rows_accepted_before_a_rejection_do_not_remove_it() {
    let store = Store::new().await;
    let (first, second, now) = (worker(&store), worker(&store), store.clock().now());
    assert_eq!(first.usage("a").await.unwrap().rejected, None);
    accept(&first, &store, 1).await;
    second.record("a", Submission::Rejected(403), now).await.unwrap();
    assert_eq!(first.usage("a").await.unwrap().rejected, Some((now, 403)));
    first.flush(now).await.unwrap();
    assert_eq!(stored(&store).await, WebhookUsage { accepted: 1, rejected: Some((now, 403)) });
}

#[tokio::test(start_paused = true)]
async fn row_accepted_after_a_known_rejection_removes_it() {
    let store = Store::new().await;
    let (first, second, now) = (worker(&store), worker(&store), store.clock().now());
    second.record("a", Submission::Rejected(401), now).await.unwrap();
    assert!(first.usage("a").await.unwrap().rejected.is_some());
    accept(&first, &store, 1).await;
    assert_eq!(first.usage("a").await.unwrap().rejected, None);
    first.flush(now).await.unwrap();
    assert_eq!(stored(&store).await.rejected, None);
}
