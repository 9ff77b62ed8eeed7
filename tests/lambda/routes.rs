//! The three routes through the gateway.

use relay_testkit::http::send;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

use crate::between;

async fn ends() -> (MockDestination, MockDestination) {
    (
        MockDestination::start(Reply::json(200, r#"{"success":true,"id":"c1"}"#)).await,
        MockDestination::start(Reply::status(200)).await,
    )
}

#[tokio::test]
async fn a_webhook_travels_through_the_queue_to_clay_byte_for_byte() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    let body = "{ \"eventName\":\"contact.created\",\t\"n\":123456789012345678901, \"n\":1, \"e\":\"Zoë ✓\" }\n";
    let answer = webhook::post(&cloud.base(), "msg_1", body.as_bytes()).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("queued")), "{}", cloud.log());
    let got = eventually("a row at Clay", async || clay.received().into_iter().next()).await;
    assert_eq!(got.body, body.as_bytes());
    eventually("an empty queue", async || (cloud.queue_length("ClayQueue").await == 0).then_some(())).await;
    assert!(!cloud.log().contains("Zo"), "{}", cloud.log());
}

#[tokio::test]
async fn a_row_is_answered_with_loops_own_answer() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let url = format!("{}/api/v1/contacts/update", cloud.base());
    let answer = send("PUT", &url, &[("authorization", &authorization)], r#"{"email":"ada@example.com","x":""}"#).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"success":true,"id":"c1"}"#), "{}", cloud.log());
    let got = loops.received();
    assert_eq!(
        (got[0].path.as_str(), got[0].body.as_slice()),
        ("/api/v1/contacts/update", br#"{"email":"ada@example.com"}"#.as_slice())
    );
    assert_eq!(got[0].headers["authorization"], "Bearer key");
    assert!(!cloud.log().contains("ada@"), "{}", cloud.log());
}

#[tokio::test]
async fn an_event_is_sent_once_however_often_its_row_is_run() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let url = format!("{}/api/v1/events/send", cloud.base());
    let row = json!({"eventName": "enriched", "email": "ada@example.com"}).to_string();
    let first = send("POST", &url, &[("authorization", &authorization)], row.clone()).await;
    assert_eq!(first.status, 200, "{} {}", first.text(), cloud.log());
    let second = send("POST", &url, &[("authorization", &authorization)], row).await;
    assert_eq!((second.status, &second.json()["duplicate"]), (200, &Value::Bool(true)), "{}", second.text());
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn a_stack_that_nobody_has_filled_in_is_closed_and_names_its_secrets() {
    let cloud = FakeStack::start(Setup::default()).await;
    let answer = webhook::post(&cloud.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    assert_eq!(answer.status_and_code(), (503, "not_configured".to_owned()), "{}", cloud.log());
    let name = cloud.stack().description()["secrets"]["LoopsToClaySecret"]["name"].as_str().unwrap();
    assert!(answer.text().contains(name), "{}", answer.text());

    let token =
        cloud.stack().description()["secrets"]["ClayToLoopsSecret"]["document"]["relay_tokens"].as_str().unwrap();
    let url = format!("{}/api/v1/contacts/update", cloud.base());
    let row = r#"{"email":"ada@example.com"}"#;
    assert_eq!(send("PUT", &url, &[], row).await.status_and_code(), (401, "invalid_token".to_owned()));
    let answer = send("PUT", &url, &[("authorization", &format!("Bearer {token}"))], row).await;
    assert_eq!(answer.status_and_code(), (502, "not_configured".to_owned()), "{}", answer.text());
    let name = cloud.stack().description()["secrets"]["ClayToLoopsSecret"]["name"].as_str().unwrap();
    assert!(answer.text().contains(name), "{}", answer.text());
}

#[tokio::test]
async fn a_body_that_is_not_text_is_verified_as_the_bytes_that_arrived() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    let answer = webhook::post(&cloud.base(), "msg_1", b"{\"eventName\":\"contact.created\",\"x\":\"\xff\"}").await;
    assert_eq!(answer.status_and_code(), (400, "invalid_body".to_owned()), "{}", cloud.log());
}
