//! What waits for a person: used-up webhooks, refused keys, and what is not set. Nothing of it is lost.

use crate::Relay;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};

use super::clay::{becomes, clay, gets, post_contact_created};

fn urls(pool: &[&MockDestination]) -> String {
    pool.iter().map(|far| far.url("/hook")).collect::<Vec<_>>().join(",")
}

fn addresses(far: &MockDestination) -> Vec<String> {
    let address =
        |body: &[u8]| Some(serde_json::from_slice::<Value>(body).ok()?["contact"]["email"].as_str()?.to_owned());
    far.received().iter().filter_map(|got| address(&got.body)).collect()
}

#[tokio::test]
async fn a_refused_clay_token_holds_the_rows_until_a_restart_with_the_right_one() {
    let far = MockDestination::start(Reply::json(401, r#"{"message":"unauthorized"}"#)).await;
    let url = far.url("/hook");
    let mut settings = clay(&url);
    settings.push(("CLAY_WEBHOOK_AUTH_TOKEN", "wrong"));
    let relay = Relay::start(&settings).await;
    post_contact_created(&relay, "ada").await;
    let held = json!({"state": "waiting", "attempts": 1, "reason": "clay_token_rejected", "status": 401});
    becomes(&relay, 0, held).await;
    // Once, and once more after the secret was read again.
    assert_eq!(far.received().len(), 2);
    let second = post(relay.base(), "msg_ada_2", &contact_created("ada@example.com")).await;
    assert_eq!(second.status, 200);

    let (folder, _) = relay.stop().await;
    far.set_default_reply(Reply::status(200));
    settings.pop();
    settings.push(("CLAY_WEBHOOK_AUTH_TOKEN", "right"));
    let relay = Relay::start_in(folder, &settings).await;
    for place in [0, 1] {
        becomes(&relay, place, json!({"state": "delivered", "reason": null})).await;
    }
    let tokens: Vec<String> =
        far.received().into_iter().map(|got| got.headers["x-clay-webhook-auth"].clone()).collect();
    assert_eq!(tokens, ["wrong", "wrong", "right", "right"]);
}

#[tokio::test]
async fn a_webhook_that_takes_no_more_makes_way_for_the_next_and_is_not_asked_again() {
    for status in [403, 404, 410] {
        let (first, second) =
            (MockDestination::start(Reply::status(status)).await, MockDestination::start(Reply::status(200)).await);
        let relay = Relay::start(&clay(&urls(&[&first, &second]))).await;
        for (place, name) in ["ada", "bob"].into_iter().enumerate() {
            post_contact_created(&relay, name).await;
            becomes(&relay, place, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
        }
        assert_eq!(addresses(&first), ["ada@example.com"], "{status}");
        assert_eq!(addresses(&second), ["ada@example.com", "bob@example.com"], "{status}");
    }
}

#[tokio::test]
async fn a_webhook_that_takes_no_more_is_remembered_after_a_restart() {
    let (first, second) =
        (MockDestination::start(Reply::status(403)).await, MockDestination::start(Reply::status(200)).await);
    let pool = urls(&[&first, &second]);
    let relay = Relay::start(&clay(&pool)).await;
    post_contact_created(&relay, "ada").await;
    becomes(&relay, 0, json!({"state": "delivered"})).await;
    let (folder, _) = relay.stop().await;
    let relay = Relay::start_in(folder, &clay(&pool)).await;
    post_contact_created(&relay, "bob").await;
    becomes(&relay, 1, json!({"state": "delivered"})).await;
    assert_eq!((first.received().len(), second.received().len()), (1, 2));
}

#[tokio::test]
async fn when_the_whole_pool_is_used_up_rows_are_held_until_there_is_another_webhook() {
    let mut pool = Vec::new();
    for status in [403, 404, 410] {
        pool.push(MockDestination::start(Reply::status(status)).await);
    }
    let old: Vec<&MockDestination> = pool.iter().collect();
    let relay = Relay::start(&clay(&urls(&old))).await;
    let names = ["ada", "bob", "cyd"];
    for (place, name) in names.into_iter().enumerate() {
        post_contact_created(&relay, name).await;
        let held = json!({"state": "waiting", "attempts": 1, "reason": "clay_webhooks_exhausted"});
        becomes(&relay, place, held).await;
    }
    let asked: Vec<usize> = old.iter().map(|far| far.received().len()).collect();
    assert_eq!(asked[..2], [1, 1], "a used-up webhook was asked again");

    let (folder, _) = relay.stop().await;
    let new = MockDestination::start(Reply::status(200)).await;
    let pool: Vec<&MockDestination> = old.iter().copied().chain([&new]).collect();
    let relay = Relay::start_in(folder, &clay(&urls(&pool))).await;
    for place in 0..names.len() {
        becomes(&relay, place, json!({"state": "delivered", "reason": null})).await;
    }
    let mut arrived = addresses(&new);
    arrived.sort();
    assert_eq!(arrived, names.map(|name| format!("{name}@example.com")));
    assert_eq!(old.iter().map(|far| far.received().len()).collect::<Vec<_>>(), asked);
}

#[tokio::test]
async fn a_webhook_that_is_full_does_not_make_way_for_the_next() {
    let (first, second) =
        (MockDestination::start(Reply::status(200)).await, MockDestination::start(Reply::status(200)).await);
    first.enqueue_replies([Reply::status(429), Reply::status(503)]);
    let relay = Relay::start(&clay(&urls(&[&first, &second]))).await;
    post_contact_created(&relay, "ada").await;
    becomes(&relay, 0, json!({"state": "delivered", "attempts": 3})).await;
    assert!(second.received().is_empty());
}

#[tokio::test]
async fn rows_wait_for_a_first_webhook() {
    let relay = Relay::start(&clay("")).await;
    post_contact_created(&relay, "ada").await;
    becomes(&relay, 0, json!({"state": "waiting", "reason": "no_webhook", "status": null})).await;
    let (folder, _) = relay.stop().await;
    let far = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start_in(folder, &clay(&far.url("/hook"))).await;
    becomes(&relay, 0, json!({"state": "delivered", "reason": null})).await;
    gets(&far, 1).await;
    assert_eq!(far.received()[0].body, contact_created("ada@example.com"));
}
