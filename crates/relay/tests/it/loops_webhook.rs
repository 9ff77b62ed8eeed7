//! The handler of Loops' webhooks, where what it needs is out of order: nothing is acknowledged that is not stored.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use relay::ingress::loops_webhook::LoopsWebhookHandler;
use relay::ports::secrets::LoopsToClaySecret;
use relay_core::webhook::route::ClayRoute;
use relay_core::webhook::selection::{EventPattern, EventSelection};
use relay_core::webhook::signature::SigningSecret;
use serde_json::{Value, json};

use crate::fake_store::FakeQueue;
use crate::harness::{FakeSecrets, FixedClock, now};

fn signing_secret(secret: &str) -> SigningSecret {
    SigningSecret::parse(secret).unwrap()
}

fn all_events() -> EventSelection {
    EventSelection(vec![EventPattern::Everything])
}

/// A secret that Loops may sign with, and a route for everything, if there is one.
fn secret(signing_secrets: Vec<SigningSecret>, routed: bool) -> LoopsToClaySecret {
    let route = ClayRoute { name: "contacts".to_owned(), events: all_events(), webhooks: Vec::new() };
    LoopsToClaySecret {
        signing_secrets,
        routes: routed.then_some(route).into_iter().collect(),
        ..LoopsToClaySecret::default()
    }
}

/// What a handler with this secret and queue says to a signed event of that length.
async fn handle_event(
    secrets: FakeSecrets<LoopsToClaySecret>,
    broken: bool,
    length: usize,
) -> (Response<Bytes>, Value) {
    handle_encoded_event(secrets, broken, length, None).await
}

/// The same for an event with this `Content-Encoding`.
async fn handle_encoded_event(
    secrets: FakeSecrets<LoopsToClaySecret>,
    broken: bool,
    length: usize,
    encoding: Option<&str>,
) -> (Response<Bytes>, Value) {
    let handler = LoopsWebhookHandler {
        secrets,
        queue: FakeQueue::new(broken),
        clock: Arc::new(FixedClock::default()),
        selection: all_events(),
        tolerance: NonZeroU32::new(300),
        contact_source: None,
    };
    let body = json!({"eventName": "contact.created", "padding": "x".repeat(length)}).to_string();
    let timestamp = now().as_second().to_string();
    let request = encoding
        .into_iter()
        .fold(Request::post("/webhooks/loops"), |request, encoding| request.header("content-encoding", encoding))
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", &timestamp)
        .header(
            "webhook-signature",
            signing_secret("c3VwZXItc2VjcmV0LWtleS1ieXRlcw==").sign("msg_1", &timestamp, body.as_bytes()),
        )
        .body(Bytes::from(body))
        .unwrap();
    let response = handler.handle(request).await;
    let json = serde_json::from_slice(response.body()).unwrap();
    (response, json)
}

fn assert_unavailable((response, json): &(Response<Bytes>, Value), code: &str) {
    assert_eq!((response.status().as_u16(), json["code"].as_str()), (503, Some(code)));
    assert_eq!(json["success"], false);
    let seconds: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
}

#[tokio::test]
async fn stored_webhook_is_acknowledged() {
    let (response, json) = handle_event(
        FakeSecrets::new(secret(vec![signing_secret("c3VwZXItc2VjcmV0LWtleS1ieXRlcw==")], true)),
        false,
        0,
    )
    .await;
    assert_eq!((response.status().as_u16(), json), (200, json!({"success": true, "status": "queued"})));
}

#[tokio::test]
async fn unstorable_webhook_returns_503_with_retry_after() {
    let cases = [
        // A row, one that is too large, and one without a route.
        (true, 0),
        (true, 100_000),
        (false, 0),
    ];
    for (routed, length) in cases {
        let secrets = FakeSecrets::new(secret(vec![signing_secret("c3VwZXItc2VjcmV0LWtleS1ieXRlcw==")], routed));
        assert_unavailable(&handle_event(secrets, true, length).await, "unavailable");
    }
}

#[tokio::test]
async fn missing_signing_secret_returns_503() {
    assert_unavailable(&handle_event(FakeSecrets::unavailable(), false, 0).await, "unavailable");
    assert_unavailable(&handle_event(FakeSecrets::new(secret(Vec::new(), true)), false, 0).await, "not_configured");
    // What is known does not match, and what is in force now cannot be read.
    let failing_refresh =
        FakeSecrets::failing_refresh(secret(vec![signing_secret("b3RoZXItc2VjcmV0LWtleS1ieXRlcw==")], true));
    assert_unavailable(&handle_event(failing_refresh, false, 0).await, "unavailable");
}

#[tokio::test]
async fn signature_with_rotated_secret_is_accepted() {
    let secrets = FakeSecrets::rotating(
        secret(vec![signing_secret("b3RoZXItc2VjcmV0LWtleS1ieXRlcw==")], true),
        secret(vec![signing_secret("c3VwZXItc2VjcmV0LWtleS1ieXRlcw==")], true),
    );
    assert_eq!(handle_event(secrets, false, 0).await.0.status(), 200);
    let (response, json) = handle_event(
        FakeSecrets::new(secret(vec![signing_secret("b3RoZXItc2VjcmV0LWtleS1ieXRlcw==")], true)),
        false,
        0,
    )
    .await;
    assert_eq!((response.status().as_u16(), json["code"].as_str()), (401, Some("invalid_signature")));
}

#[tokio::test]
async fn invalid_signature_names_secret_and_changed_body_as_causes() {
    let other = || FakeSecrets::new(secret(vec![signing_secret("b3RoZXItc2VjcmV0LWtleS1ieXRlcw==")], true));
    for (encoding, part) in [
        (None, "no proxy changes the body"),
        (Some("gzip"), "Content-Encoding gzip, so let the proxy undo it"),
        (Some("not a name: 7"), "Content-Encoding of another kind"),
    ] {
        let (response, json) = handle_encoded_event(other(), false, 0, encoding).await;
        let message = json["message"].as_str().unwrap();
        assert_eq!((response.status().as_u16(), json["code"].as_str()), (401, Some("invalid_signature")));
        assert!(message.contains("compare the signing secret") && message.contains(part), "{message}");
        assert!(message.len() <= 300 && message.ends_with('.'), "{message}");
    }
}
