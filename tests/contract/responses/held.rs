//! Held deliveries: used-up webhooks, rejected keys and missing settings. None of them is lost.

use crate::Relay;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};

use super::clay::{clay_settings, post_contact_created, wait_for_delivery, wait_for_requests};

fn pool_urls(pool: &[&MockDestination]) -> String {
    pool.iter().map(|destination| destination.url("/hook")).collect::<Vec<_>>().join(",")
}

fn received_emails(destination: &MockDestination) -> Vec<String> {
    let email_of =
        |body: &[u8]| Some(serde_json::from_slice::<Value>(body).ok()?["contact"]["email"].as_str()?.to_owned());
    destination.received().iter().filter_map(|request| email_of(&request.body)).collect()
}

#[tokio::test]
async fn rejected_clay_token_holds_rows_until_restart_with_new_one() {
    let destination = MockDestination::start(Reply::json(401, r#"{"message":"unauthorized"}"#)).await;
    let url = destination.url("/hook");
    let mut settings = clay_settings(&url);
    settings.push(("CLAY_WEBHOOK_AUTH_TOKEN", "wrong"));
    let relay = Relay::start(&settings).await;
    post_contact_created(&relay, "ada").await;
    let held = json!({"state": "waiting", "attempts": 1, "reason": "clay_token_rejected", "status": 401});
    wait_for_delivery(&relay, 0, held).await;
    // Once, and once more after the secret was read again.
    assert_eq!(destination.received().len(), 2);
    let second = post(relay.base(), "msg_ada_2", &contact_created("ada@example.com")).await;
    assert_eq!(second.status, 200);

    let (folder, _) = relay.stop().await;
    destination.set_default_reply(Reply::status(200));
    settings.pop();
    settings.push(("CLAY_WEBHOOK_AUTH_TOKEN", "right"));
    let relay = Relay::start_in(folder, &settings).await;
    for index in [0, 1] {
        wait_for_delivery(&relay, index, json!({"state": "delivered", "reason": null})).await;
    }
    let tokens: Vec<String> =
        destination.received().into_iter().map(|request| request.headers["x-clay-webhook-auth"].clone()).collect();
    assert_eq!(tokens, ["wrong", "wrong", "right", "right"]);
}

#[tokio::test]
async fn exhausted_webhook_is_skipped_for_the_next_in_pool() {
    for status in [403, 404, 410] {
        let (first, second) =
            (MockDestination::start(Reply::status(status)).await, MockDestination::start(Reply::status(200)).await);
        let relay = Relay::start(&clay_settings(&pool_urls(&[&first, &second]))).await;
        for (index, name) in ["ada", "bob"].into_iter().enumerate() {
            post_contact_created(&relay, name).await;
            wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
        }
        assert_eq!(received_emails(&first), ["ada@example.com"], "{status}");
        assert_eq!(received_emails(&second), ["ada@example.com", "bob@example.com"], "{status}");
    }
}

#[tokio::test]
async fn exhausted_webhook_stays_skipped_after_a_restart() {
    let (first, second) =
        (MockDestination::start(Reply::status(403)).await, MockDestination::start(Reply::status(200)).await);
    let pool = pool_urls(&[&first, &second]);
    let relay = Relay::start(&clay_settings(&pool)).await;
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, 0, json!({"state": "delivered"})).await;
    let (folder, _) = relay.stop().await;
    let relay = Relay::start_in(folder, &clay_settings(&pool)).await;
    post_contact_created(&relay, "bob").await;
    wait_for_delivery(&relay, 1, json!({"state": "delivered"})).await;
    assert_eq!((first.received().len(), second.received().len()), (1, 2));
}

#[tokio::test]
async fn exhausted_pool_holds_rows_until_a_webhook_is_added() {
    let mut pool = Vec::new();
    for status in [403, 404, 410] {
        pool.push(MockDestination::start(Reply::status(status)).await);
    }
    let old_webhooks: Vec<&MockDestination> = pool.iter().collect();
    let relay = Relay::start(&clay_settings(&pool_urls(&old_webhooks))).await;
    let names = ["ada", "bob", "cyd"];
    for (index, name) in names.into_iter().enumerate() {
        post_contact_created(&relay, name).await;
        let held = json!({"state": "waiting", "attempts": 1, "reason": "clay_webhooks_exhausted"});
        wait_for_delivery(&relay, index, held).await;
    }
    let request_counts: Vec<usize> = old_webhooks.iter().map(|destination| destination.received().len()).collect();
    assert_eq!(request_counts[..2], [1, 1], "a used-up webhook was asked again");

    let (folder, _) = relay.stop().await;
    let new_webhook = MockDestination::start(Reply::status(200)).await;
    let pool: Vec<&MockDestination> = old_webhooks.iter().copied().chain([&new_webhook]).collect();
    let relay = Relay::start_in(folder, &clay_settings(&pool_urls(&pool))).await;
    for index in 0..names.len() {
        wait_for_delivery(&relay, index, json!({"state": "delivered", "reason": null})).await;
    }
    let mut arrived = received_emails(&new_webhook);
    arrived.sort();
    assert_eq!(arrived, names.map(|name| format!("{name}@example.com")));
    assert_eq!(old_webhooks.iter().map(|destination| destination.received().len()).collect::<Vec<_>>(), request_counts);
}

#[tokio::test]
async fn rate_limited_webhook_is_not_skipped() {
    let (first, second) =
        (MockDestination::start(Reply::status(200)).await, MockDestination::start(Reply::status(200)).await);
    first.enqueue_replies([Reply::status(429), Reply::status(503)]);
    let relay = Relay::start(&clay_settings(&pool_urls(&[&first, &second]))).await;
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 3})).await;
    assert!(second.received().is_empty());
}

#[tokio::test]
async fn rows_are_held_until_a_first_webhook_is_set() {
    let relay = Relay::start(&clay_settings("")).await;
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "no_webhook", "status": null})).await;
    let (folder, _) = relay.stop().await;
    let destination = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start_in(folder, &clay_settings(&destination.url("/hook"))).await;
    wait_for_delivery(&relay, 0, json!({"state": "delivered", "reason": null})).await;
    wait_for_requests(&destination, 1).await;
    assert_eq!(destination.received()[0].body, contact_created("ada@example.com"));
}
