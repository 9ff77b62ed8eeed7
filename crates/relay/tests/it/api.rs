//! The calls that are passed on, and the status of a delivery.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use jiff::Timestamp;
use relay::destination::http_client::DestinationResponse;
use relay::ingress::delivery_status::DeliveryStatusHandler;
use relay::ingress::loops_read::LoopsReadHandler;
use relay::ports::delivery_status::{DeliveryStatus, DeliveryStatusSource, Progress};
use relay::ports::queue::StoreError;
use relay::ports::secrets::ClayToLoopsSecret;
use relay::routes::{ApiRoute, LoopsRead};
use relay_core::delivery::{DeliveryId, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::SecretString;
use relay_core::token::{RelayToken, RelayTokens, Scope};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::destinations::{FakeLoops, reply, reply_with_body};
use crate::harness::{FakeRateLimiter, FakeSecrets, FixedClock, now};

fn secrets() -> FakeSecrets<ClayToLoopsSecret> {
    let token = RelayToken { token: "token".into(), name: None, scopes: Scope::ALL.iter().copied().collect() };
    FakeSecrets::new(ClayToLoopsSecret {
        api_key: Some(SecretString::from("key")),
        tokens: RelayTokens::from_tokens(vec![token]),
        ..ClayToLoopsSecret::default()
    })
}

fn head(path: &str) -> Parts {
    let request = Request::builder().uri(path).header("authorization", "Bearer token").body(()).unwrap();
    request.into_parts().0
}

/// Asks a Loops that answers so for the lists.
async fn read_lists(response: DestinationResponse, limiter: FakeRateLimiter) -> Response<Bytes> {
    let loops = FakeLoops::new(|_, _| reply(500)).with_read_reply(move |_| response.clone());
    let clock = Arc::new(FixedClock::default());
    let handler = LoopsReadHandler { secrets: secrets(), loops, limiter: Arc::new(limiter), clock };
    handler.handle(LoopsRead::Lists, &head("/api/v1/lists")).await
}

fn code(response: &Response<Bytes>) -> (u16, String) {
    let json: Value = serde_json::from_slice(response.body()).unwrap();
    (response.status().as_u16(), json.get("code").and_then(Value::as_str).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn answer_of_loops_is_passed_on_unchanged() {
    for (status, body) in [(200, r#"[ {"id":"l","new":1} ]"#), (400, r#"{"success":false,"message":"No."}"#)] {
        let response = read_lists(reply_with_body(status, body), FakeRateLimiter::default()).await;
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (status, body.as_bytes()));
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.headers()["x-relay-delivery-id"].to_str().unwrap().starts_with("read_"));
    }
}

#[tokio::test]
async fn call_that_loops_does_not_answer_is_unavailable() {
    let html = reply_with_body(200, "<html>");
    for response in [html, reply(503), reply(429), DestinationResponse::without_response(CallOutcome::TimedOut)] {
        let response = read_lists(response, FakeRateLimiter::default()).await;
        assert_eq!(code(&response), (429, "unavailable".to_owned()));
        assert_eq!(response.headers()["retry-after"], "1");
    }
}

#[tokio::test]
async fn key_that_loops_refuses_is_the_relays_fault() {
    let response = read_lists(reply(401), FakeRateLimiter::default()).await;
    assert_eq!(code(&response), (502, "loops_key_rejected".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn call_without_room_within_five_seconds_is_unavailable() {
    let started_at = tokio::time::Instant::now();
    let response = read_lists(reply_with_body(200, "[]"), FakeRateLimiter::never_acquiring()).await;
    assert_eq!(code(&response), (429, "unavailable".to_owned()));
    assert_eq!(started_at.elapsed().as_secs(), Duration::from_secs(5).as_secs());
}

#[test]
fn each_route_needs_one_scope() {
    let scope_of = |method, path| ApiRoute::find(&method, path).unwrap().scope().as_str();
    for (method, path, scope) in [
        (Method::PUT, "/api/v1/contacts/update", "contacts:write"),
        (Method::POST, "/api/v1/contacts/create", "contacts:write"),
        (Method::POST, "/api/v1/contacts/delete", "contacts:delete"),
        (Method::GET, "/api/v1/contacts/find", "contacts:read"),
        (Method::GET, "/api/v1/contacts/suppression", "contacts:read"),
        (Method::GET, "/api/v1/contacts/properties", "account:read"),
        (Method::POST, "/api/v1/events/send", "events:send"),
        (Method::POST, "/api/v1/transactional", "email:send"),
        (Method::GET, "/api/v1/transactional", "account:read"),
        (Method::GET, "/api/v1/lists", "account:read"),
        (Method::GET, "/api/v1/api-key", "account:read"),
        (Method::GET, "/api/v1/deliveries/event_1", "deliveries:read"),
    ] {
        assert_eq!(scope_of(method, path), scope, "{path}");
    }
}

/// A store that has one delivery.
#[derive(Debug)]
struct OneDelivery(Option<DeliveryStatus>);

impl DeliveryStatusSource for OneDelivery {
    async fn delivery_status(&self, _: &DeliveryId) -> Result<Option<DeliveryStatus>, StoreError> {
        Ok(self.0.clone())
    }
}

async fn status_of(id: &str, found: Option<DeliveryStatus>) -> Response<Bytes> {
    let (deliveries, clock) = (OneDelivery(found), Arc::new(FixedClock::default()));
    DeliveryStatusHandler { secrets: secrets(), deliveries, clock }.handle(id, &head("/").headers).await
}

fn status(progress: Progress, message: Option<&str>) -> DeliveryStatus {
    let reason = (progress == Progress::Dead).then_some(Reason { code: ReasonCode::LoopsRejected, status: Some(400) });
    DeliveryStatus { progress, since: now(), attempts: 2, reason, message: message.map(str::to_owned) }
}

#[tokio::test]
async fn status_has_a_sentence_for_each_progress() {
    for (progress, name) in [
        (Progress::Queued, "queued"),
        (Progress::Held, "held"),
        (Progress::Delivered, "delivered"),
        (Progress::Duplicate, "duplicate"),
        (Progress::Dead, "dead"),
    ] {
        let response = status_of("event_1", Some(status(progress, None))).await;
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            (&json["deliveryId"], &json["status"], &json["attempts"]),
            (&json!("event_1"), &json!(name), &json!(2))
        );
        assert_eq!(json["since"].as_str().unwrap().parse::<Timestamp>().unwrap(), now());
        let message = json["message"].as_str().unwrap();
        assert!(message.ends_with('.') && message.chars().count() <= 300, "{message}");
        assert_eq!(json.get("reason").is_some(), progress == Progress::Dead);
    }
}

#[tokio::test]
async fn dead_status_has_the_sentence_of_loops() {
    for message in ["Transactional email not found", "Transactional email not found."] {
        let response = status_of("email_1", Some(status(Progress::Dead, Some(message)))).await;
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        let expected = "Loops refuses it and says: Transactional email not found. Correct the row and run it again.";
        assert_eq!(json["message"], expected);
    }
}

#[tokio::test]
async fn unknown_or_impossible_id_is_not_found() {
    for (id, found) in [("event_1", None), ("../x", Some(status(Progress::Held, None)))] {
        assert_eq!(code(&status_of(id, found).await), (404, "not_found".to_owned()));
    }
    let long = "a".repeat(81);
    assert_eq!(code(&status_of(&long, Some(status(Progress::Held, None))).await).0, 404);
}
