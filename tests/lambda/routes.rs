//! The routes through the gateway.

use relay_testkit::http::send;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

use crate::start_stack;

async fn start_destinations() -> (MockDestination, MockDestination) {
    (
        MockDestination::start(Reply::json(200, r#"{"success":true,"id":"c1"}"#)).await,
        MockDestination::start(Reply::status(200)).await,
    )
}

#[tokio::test]
async fn webhook_reaches_clay_byte_for_byte_through_the_queue() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    let body = "{ \"eventName\":\"contact.created\",\t\"n\":123456789012345678901, \"n\":1, \"e\":\"Zoë ✓\" }\n";
    let response = webhook::post(&fake_stack.base(), "msg_1", body.as_bytes()).await;
    assert_eq!((response.status, response.json()["status"].as_str()), (200, Some("queued")), "{}", fake_stack.log());
    let request = eventually("a row at Clay", async || clay.received().into_iter().next()).await;
    assert_eq!(request.body, body.as_bytes());
    eventually("an empty queue", async || (fake_stack.queue_length("ClayQueue").await == 0).then_some(())).await;
    assert!(!fake_stack.log().contains("Zo"), "{}", fake_stack.log());
}

#[tokio::test]
async fn row_gets_the_response_of_loops() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let url = format!("{}/api/v1/contacts/update", fake_stack.base());
    let response =
        send("PUT", &url, &[("authorization", &authorization)], r#"{"email":"ada@example.com","x":""}"#).await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, r#"{"success":true,"id":"c1"}"#),
        "{}",
        fake_stack.log()
    );
    let requests = loops.received();
    assert_eq!(
        (requests[0].path.as_str(), requests[0].body.as_slice()),
        ("/api/v1/contacts/update", br#"{"email":"ada@example.com"}"#.as_slice())
    );
    assert_eq!(requests[0].headers["authorization"], "Bearer key");
    assert!(!fake_stack.log().contains("ada@"), "{}", fake_stack.log());
}

#[tokio::test]
async fn event_is_sent_once_when_its_row_is_rerun() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let url = format!("{}/api/v1/events/send", fake_stack.base());
    let row = json!({"eventName": "enriched", "email": "ada@example.com"}).to_string();
    let first = send("POST", &url, &[("authorization", &authorization)], row.clone()).await;
    assert_eq!(first.status, 200, "{} {}", first.text(), fake_stack.log());
    let second = send("POST", &url, &[("authorization", &authorization)], row).await;
    assert_eq!((second.status, &second.json()["duplicate"]), (200, &Value::Bool(true)), "{}", second.text());
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn unset_secret_is_named_in_log_and_to_authorized_callers() {
    let fake_stack = FakeStack::start(Setup::default()).await;
    let response = webhook::post(&fake_stack.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    assert_eq!(response.status_and_code(), (503, "not_configured".to_owned()), "{}", fake_stack.log());
    let name = fake_stack.stack().description()["secrets"]["LoopsToClaySecret"]["name"].as_str().unwrap();
    assert!(!response.text().contains(name) && fake_stack.log().contains(name), "{}", response.text());

    let token =
        fake_stack.stack().description()["secrets"]["ClayToLoopsSecret"]["document"]["relay_tokens"].as_str().unwrap();
    let url = format!("{}/api/v1/contacts/update", fake_stack.base());
    let row = r#"{"email":"ada@example.com"}"#;
    assert_eq!(send("PUT", &url, &[], row).await.status_and_code(), (401, "invalid_token".to_owned()));
    let response = send("PUT", &url, &[("authorization", &format!("Bearer {token}"))], row).await;
    assert_eq!(response.status_and_code(), (502, "not_configured".to_owned()), "{}", response.text());
    let name = fake_stack.stack().description()["secrets"]["ClayToLoopsSecret"]["name"].as_str().unwrap();
    assert!(response.text().contains(name), "{}", response.text());
}

#[tokio::test]
async fn non_utf8_body_is_verified_by_its_raw_bytes() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    let response =
        webhook::post(&fake_stack.base(), "msg_1", b"{\"eventName\":\"contact.created\",\"x\":\"\xff\"}").await;
    assert_eq!(response.status_and_code(), (400, "invalid_body".to_owned()), "{}", fake_stack.log());
}
