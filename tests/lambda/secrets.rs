//! The secrets: read seldom, while Secrets Manager fails, and when they change.

use std::time::Duration;

use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::row::contact;
use relay_testkit::webhook::{self, contact_created, post};
use relay_testkit::{eventually, eventually_within};
use serde_json::json;

use crate::contract::rows::contact_row;
use crate::faults::{SERVICE_FAULTS, start_destinations};
use crate::{clay_to_loops_document, loops_to_clay_document, settings, start_stack};

#[tokio::test]
async fn unreadable_secret_is_503_to_loops_and_429_to_clay() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    for fault in SERVICE_FAULTS {
        fake_stack.services().inject("secretsmanager", fault);
        post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.assert_error_response(
            503,
            "unavailable",
            None,
        );
        let response = contact(&fake_stack.base(), contact_row("ada@example.com")).await;
        response.assert_error_response(429, "unavailable", None);
        assert_eq!(response.headers["retry-after"], "1");
    }
    fake_stack.services().clear();
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(contact(&fake_stack.base(), contact_row("ada@example.com")).await.status, 200);
}

#[tokio::test]
async fn cached_secret_is_used_while_rereads_fail() {
    let (loops, clay) = start_destinations().await;
    let mut settings = settings(&loops);
    settings.push(("SECRET_TTL_SECONDS".to_owned(), "1".to_owned()));
    let (loops_to_clay, clay_to_loops) = (Some(loops_to_clay_document(&[&clay])), Some(clay_to_loops_document()));
    let fake_stack = FakeStack::start(Setup { loops_to_clay, clay_to_loops, settings, ..Setup::default() }).await;
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    fake_stack.services().inject("secretsmanager", ServiceFault::InternalError);
    let log_message = "serves on";
    eventually("a secret past its time", async || {
        assert_eq!(post(&fake_stack.base(), "msg_2", &contact_created("bob@example.com")).await.status, 200);
        fake_stack.log().contains(log_message).then_some(())
    })
    .await;
}

#[tokio::test]
async fn unusable_secret_closes_its_routes_and_is_counted() {
    let (loops, clay) = start_destinations().await;
    let mut settings = settings(&loops);
    settings.push(("SECRET_TTL_SECONDS".to_owned(), "1".to_owned()));
    let (loops_to_clay, clay_to_loops) = (Some(loops_to_clay_document(&[&clay])), Some(clay_to_loops_document()));
    let fake_stack = FakeStack::start(Setup { loops_to_clay, clay_to_loops, settings, ..Setup::default() }).await;
    assert_eq!(contact(&fake_stack.base(), contact_row("ada@example.com")).await.status, 200);
    fake_stack.stack().put_secret("ClayToLoopsSecret", &json!({"relay_tokens": 7})).await;
    eventually("a closed route", async || {
        let response = contact(&fake_stack.base(), contact_row("ada@example.com")).await;
        (response.status_and_code() == (429, "unavailable".to_owned())).then_some(())
    })
    .await;
    eventually("the metric", async || fake_stack.log().contains(r#""secret_unreadable":1"#).then_some(())).await;
}

#[tokio::test]
async fn rotated_secret_is_accepted_without_downtime() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let rotated = json!({"loops_signing_secrets": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==", webhook::SIGNING_SECRET]});
    fake_stack.stack().put_secret("LoopsToClaySecret", &rotated).await;
    // Signed with the new one, which no sandbox has read yet.
    let body = br#"{"eventName":"testing.testEvent"}"#;
    let time = webhook::now().to_string();
    let secret =
        relay_core::webhook::signature::SigningSecret::parse("whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==").unwrap();
    let signature = secret.sign("msg_2", &time, body);
    let headers = [("webhook-id", "msg_2"), ("webhook-timestamp", &time), ("webhook-signature", &signature)];
    let response =
        relay_testkit::http::send("POST", &format!("{}/webhooks/loops", fake_stack.base()), &headers, body).await;
    assert_eq!((response.status, response.json()["status"].as_str()), (200, Some("test")), "{}", response.text());
    // An unknown token does not cause a read for each request.
    let read_call = ("loops-to-clay".to_owned(), "secretsmanager:GetSecretValue".to_owned());
    let count_reads = || fake_stack.services().calls().iter().filter(|call| **call == read_call).count();
    let reads_before = count_reads();
    for _ in 0..5 {
        let headers = [("webhook-id", "msg_3"), ("webhook-timestamp", &time), ("webhook-signature", "v1,AAAA")];
        let forged =
            relay_testkit::http::send("POST", &format!("{}/webhooks/loops", fake_stack.base()), &headers, body).await;
        forged.assert_error_response(401, "invalid_signature", None);
    }
    assert_eq!(count_reads(), reads_before, "within half a minute of the last reading");
}

#[tokio::test]
async fn secret_filled_in_after_start_is_used() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = FakeStack::start(Setup { settings: settings(&loops), ..Setup::default() }).await;
    let token = fake_stack.stack().description()["secrets"]["ClayToLoopsSecret"]["document"]["relay_tokens"].clone();
    let authorization = format!("Bearer {}", token.as_str().unwrap());
    let headers = [("authorization", authorization.as_str())];
    let url = format!("{}/api/v1/contacts/update", fake_stack.base());
    // Started, and with what the template has made.
    assert_eq!(post(&fake_stack.base(), "msg_1", b"{}").await.status, 503);
    assert_eq!(relay_testkit::http::send("PUT", &url, &headers, contact_row("ada@example.com")).await.status, 502);
    fake_stack.stack().put_secret("LoopsToClaySecret", &loops_to_clay_document(&[&clay])).await;
    fake_stack.stack().put_secret("ClayToLoopsSecret", &json!({"loops_api_key": "key", "relay_tokens": [token]})).await;
    eventually_within(Duration::from_secs(40), "both secrets in use", async || {
        let webhook = post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await;
        let row = relay_testkit::http::send("PUT", &url, &headers, contact_row("ada@example.com")).await;
        ((webhook.status, row.status) == (200, 200)).then_some(())
    })
    .await;
}
