//! What became of a row that was answered with 202, and what a dry run leaves behind: nothing.

use relay_core::token::Scope;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::http::{Response, send};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use serde_json::{Value, json};

use super::rows::{assert_queued, start_loops, start_relay};
use crate::Relay;

/// Method, path and body of each call that writes.
pub(super) const CALLS: [[&str; 3]; 5] = [
    ["POST", "/api/v1/contacts/create", r#"{"email":"ada@example.com","firstName":"Ada"}"#],
    ["PUT", "/api/v1/contacts/update", r#"{"email":"ada@example.com"}"#],
    ["POST", "/api/v1/events/send", r#"{"email":"ada@example.com","eventName":"enriched"}"#],
    ["POST", "/api/v1/transactional", r#"{"transactionalId":"receipt","email":"ada@example.com"}"#],
    ["POST", "/api/v1/contacts/delete", r#"{"email":"ada@example.com"}"#],
];

/// Starts a relay whose token has all scopes.
pub(super) async fn start(loops: &MockDestination) -> Relay {
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let tokens = json!([{"token": RELAY_TOKEN, "name": "tests", "scopes": scopes}]);
    start_relay(loops, &[("RELAY_TOKEN", &tokens.to_string())]).await
}

pub(super) async fn call(relay: &Relay, [method, path, body]: [&str; 3], headers: &[(&str, &str)]) -> Response {
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let mut all = vec![("authorization", authorization.as_str()), ("content-type", "application/json")];
    all.extend(headers);
    send(method, &format!("{}{path}", relay.base()), &all, body).await
}

/// Has a row stored, and returns its id.
async fn store(relay: &Relay, row: [&str; 3]) -> String {
    assert_queued(&call(relay, row, &[("prefer", "respond-async")]).await)
}

async fn status_of(relay: &Relay, id: &str) -> Response {
    call(relay, ["GET", &format!("/api/v1/deliveries/{id}"), ""], &[]).await
}

/// Waits until a delivery has this status, and returns the answer.
async fn wait_for_status(relay: &Relay, id: &str, status: &str) -> Value {
    eventually(status, async || {
        let response = status_of(relay, id).await;
        let answer = response.json();
        (response.status == 200 && answer["status"] == status).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn stored_row_is_delivered_by_its_status() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    for row in CALLS {
        let id = store(&relay, row).await;
        let answer = wait_for_status(&relay, &id, "delivered").await;
        assert_eq!((&answer["deliveryId"], &answer["attempts"]), (&json!(id), &json!(1)), "{row:?} {answer}");
        assert!(!answer.to_string().contains("ada"), "{answer}");
    }
}

#[tokio::test]
async fn stored_row_that_loops_refuses_is_dead_with_its_sentence() {
    let refusal = r#"{"success":false,"message":"No such property for ada@example.com"}"#;
    let loops = MockDestination::start(Reply::json(400, refusal)).await;
    let relay = start(&loops).await;
    for row in CALLS {
        let id = store(&relay, row).await;
        let answer = wait_for_status(&relay, &id, "dead").await;
        assert_eq!(answer["reason"], "loops_rejected", "{row:?} {answer}");
        let sentence = answer["message"].as_str().unwrap_or_default();
        assert!(sentence.contains("No such property for …") && sentence.len() <= 300, "{row:?} {sentence}");
        assert!(!answer.to_string().contains("ada@"), "{answer}");
    }
}

#[tokio::test]
async fn what_loops_had_before_counts_as_delivered() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    let [create, _, event, email, delete] = CALLS;
    let replies =
        [(create, 409, "delivered"), (event, 409, "duplicate"), (email, 409, "duplicate"), (delete, 404, "delivered")];
    for (row, reply, status) in replies {
        loops.enqueue_replies([Reply::json(reply, r#"{"success":false,"message":"no"}"#)]);
        let id = store(&relay, row).await;
        wait_for_status(&relay, &id, status).await;
    }
}

#[tokio::test]
async fn id_without_a_record_is_not_found() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    for id in ["contact_0123456789abcdef", "a%20b", "%23", &"x".repeat(100)] {
        status_of(&relay, id).await.assert_error_response(404, "not_found", None);
    }
}

#[tokio::test]
async fn dry_run_leaves_no_record_and_calls_nobody() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    let calls = loops.received().len();
    for [method, path, body] in CALLS {
        let response = call(&relay, [method, &format!("{path}?dry-run=on"), body], &[]).await;
        assert_eq!((response.status, &response.json()["status"]), (200, &json!("dry-run")), "{path}");
        let id = &response.headers["x-relay-delivery-id"];
        status_of(&relay, id).await.assert_error_response(404, "not_found", None);
    }
    assert_eq!((relay.deliveries().await.len(), loops.received().len()), (0, calls));
}

#[tokio::test]
async fn email_is_sent_once_when_its_row_is_rerun() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    let email = CALLS[3];
    let id = store(&relay, email).await;
    wait_for_status(&relay, &id, "delivered").await;
    for _ in 0..2 {
        let answer = call(&relay, email, &[]).await.json();
        assert_eq!((&answer["success"], &answer["duplicate"]), (&json!(true), &json!(true)), "{answer}");
    }
    let sent = loops.received().into_iter().filter(|request| request.path == email[1]).count();
    assert_eq!(sent, 1);
}
