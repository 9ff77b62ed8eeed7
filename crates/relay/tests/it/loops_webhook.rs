//! The handler of Loops' webhooks, where what it needs is out of order: nothing is acknowledged that is not stored.

use bytes::Bytes;
use http::{Request, Response};
use relay::ingress::loops_webhook::{LoopsToClaySettings, LoopsWebhookHandler};
use relay::ports::secrets::LoopsToClaySecret;
use relay_core::webhook::route::ClayRoute;
use relay_core::webhook::selection::{EventPattern, EventSelection};
use relay_core::webhook::signature::{SigningSecret, Tolerance};
use serde_json::{Value, json};

use crate::fake_store::FakeQueue;
use crate::harness::{FakeSecrets, Still, now};

fn signing(secret: &str) -> SigningSecret {
    SigningSecret::parse(secret).unwrap()
}

fn everything() -> EventSelection {
    EventSelection::new(vec![EventPattern::Everything])
}

/// A secret that Loops may sign with, and a route for everything, if there is one.
fn secret(signing_secrets: Vec<SigningSecret>, routed: bool) -> LoopsToClaySecret {
    let route = ClayRoute { name: "contacts".to_owned(), events: everything(), webhooks: Vec::new() };
    LoopsToClaySecret { signing_secrets, routes: routed.then_some(route).into_iter().collect() }
}

/// What a handler with this secret and queue says to a signed event of that length.
async fn answer(secrets: FakeSecrets<LoopsToClaySecret>, broken: bool, length: usize) -> (Response<Bytes>, Value) {
    let handler = LoopsWebhookHandler {
        secrets,
        queue: FakeQueue::new(broken),
        ambient: Still::default(),
        settings: LoopsToClaySettings {
            selection: everything(),
            tolerance: Tolerance::from_secs(300),
            contact_source: None,
        },
    };
    let body = json!({"eventName": "contact.created", "padding": "x".repeat(length)}).to_string();
    let timestamp = now().as_second().to_string();
    let request = Request::post("/webhooks/loops")
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", &timestamp)
        .header("webhook-signature", signing("c2VjcmV0").sign("msg_1", &timestamp, body.as_bytes()))
        .body(Bytes::from(body))
        .unwrap();
    let response = handler.handle(request).await;
    let told = serde_json::from_slice(response.body()).unwrap();
    (response, told)
}

fn is_refused_for_now((response, told): &(Response<Bytes>, Value), code: &str) {
    assert_eq!((response.status().as_u16(), told["code"].as_str()), (503, Some(code)));
    assert_eq!(told["success"], false);
    let seconds: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
}

#[tokio::test]
async fn what_is_stored_is_acknowledged() {
    let (response, told) = answer(FakeSecrets::of(secret(vec![signing("c2VjcmV0")], true)), false, 0).await;
    assert_eq!((response.status().as_u16(), told), (200, json!({"success": true, "status": "queued"})));
}

#[tokio::test]
async fn what_cannot_be_stored_is_to_be_sent_again() {
    let cases = [
        // A row, one that is too large, and one without a route.
        (true, 0),
        (true, 100_000),
        (false, 0),
    ];
    for (routed, length) in cases {
        let secrets = FakeSecrets::of(secret(vec![signing("c2VjcmV0")], routed));
        is_refused_for_now(&answer(secrets, true, length).await, "unavailable");
    }
}

#[tokio::test]
async fn without_a_secret_there_is_nothing_to_verify_with() {
    is_refused_for_now(&answer(FakeSecrets::unreadable(), false, 0).await, "unavailable");
    is_refused_for_now(&answer(FakeSecrets::of(secret(Vec::new(), true)), false, 0).await, "not_configured");
    // What is known does not match, and what is in force now cannot be read.
    let lost = FakeSecrets::lost(secret(vec![signing("b3RoZXI=")], true));
    is_refused_for_now(&answer(lost, false, 0).await, "unavailable");
}

#[tokio::test]
async fn a_signature_with_a_secret_that_was_set_a_moment_ago_is_known() {
    let secrets =
        FakeSecrets::changing(secret(vec![signing("b3RoZXI=")], true), secret(vec![signing("c2VjcmV0")], true));
    assert_eq!(answer(secrets, false, 0).await.0.status(), 200);
    let (response, told) = answer(FakeSecrets::of(secret(vec![signing("b3RoZXI=")], true)), false, 0).await;
    assert_eq!((response.status().as_u16(), told["code"].as_str()), (401, Some("invalid_signature")));
}
