//! The secrets: read seldom, while Secrets Manager fails, and when they change.

use std::time::Duration;

use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::row::contact;
use relay_testkit::webhook::{self, contact_created, post};
use relay_testkit::{eventually, eventually_within};
use serde_json::json;

use crate::contract::rows::row_of;
use crate::faults::{TROUBLES, ends};
use crate::{between, settings, to_clay, to_loops};

#[tokio::test]
async fn a_secret_that_could_never_be_read_is_503_to_loops_and_429_to_clay_until_it_can() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    for trouble in TROUBLES {
        cloud.services().inject("secretsmanager", trouble);
        post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await.assert_error_response(
            503,
            "unavailable",
            None,
        );
        let answer = contact(&cloud.base(), row_of("ada@example.com")).await;
        answer.assert_error_response(429, "unavailable", None);
        assert_eq!(answer.headers["retry-after"], "1");
    }
    cloud.services().clear();
    assert_eq!(post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(contact(&cloud.base(), row_of("ada@example.com")).await.status, 200);
}

#[tokio::test]
async fn a_secret_that_was_read_once_serves_on_while_it_cannot_be_read() {
    let (loops, clay) = ends().await;
    let mut settings = settings(&loops);
    settings.push(("SECRET_TTL_SECONDS".to_owned(), "1".to_owned()));
    let (loops_to_clay, clay_to_loops) = (Some(to_clay(&[&clay])), Some(to_loops()));
    let cloud = FakeStack::start(Setup { loops_to_clay, clay_to_loops, settings, ..Setup::default() }).await;
    assert_eq!(post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    cloud.services().inject("secretsmanager", ServiceFault::InternalError);
    let told = "serves on";
    eventually("a secret past its time", async || {
        assert_eq!(post(&cloud.base(), "msg_2", &contact_created("bob@example.com")).await.status, 200);
        cloud.log().contains(told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rotated_secret_is_taken_without_a_gap() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    assert_eq!(post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let rotated = json!({"loops_signing_secrets": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==", webhook::SIGNING_SECRET]});
    cloud.stack().put_secret("LoopsToClaySecret", &rotated).await;
    // Signed with the new one, which no sandbox has read yet.
    let body = br#"{"eventName":"testing.testEvent"}"#;
    let time = webhook::now().to_string();
    let secret =
        relay_core::webhook::signature::SigningSecret::parse("whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==").unwrap();
    let signature = secret.sign("msg_2", &time, body);
    let headers = [("webhook-id", "msg_2"), ("webhook-timestamp", &time), ("webhook-signature", &signature)];
    let answer = relay_testkit::http::send("POST", &format!("{}/webhooks/loops", cloud.base()), &headers, body).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("test")), "{}", answer.text());
    // And one that nobody knows does not buy a reading for each request.
    let reading = ("loops-to-clay".to_owned(), "secretsmanager:GetSecretValue".to_owned());
    let readings = || cloud.services().calls().iter().filter(|call| **call == reading).count();
    let before = readings();
    for _ in 0..5 {
        let headers = [("webhook-id", "msg_3"), ("webhook-timestamp", &time), ("webhook-signature", "v1,AAAA")];
        let forged =
            relay_testkit::http::send("POST", &format!("{}/webhooks/loops", cloud.base()), &headers, body).await;
        forged.assert_error_response(401, "invalid_signature", None);
    }
    assert_eq!(readings(), before, "within half a minute of the last reading");
}

#[tokio::test]
async fn a_secret_that_is_filled_in_after_the_first_try_works_at_once() {
    let (loops, clay) = ends().await;
    let cloud = FakeStack::start(Setup { settings: settings(&loops), ..Setup::default() }).await;
    let token = cloud.stack().description()["secrets"]["ClayToLoopsSecret"]["document"]["relay_tokens"].clone();
    let authorization = format!("Bearer {}", token.as_str().unwrap());
    let headers = [("authorization", authorization.as_str())];
    let url = format!("{}/api/v1/contacts/update", cloud.base());
    // Started, and with what the template has made.
    assert_eq!(post(&cloud.base(), "msg_1", b"{}").await.status, 503);
    assert_eq!(relay_testkit::http::send("PUT", &url, &headers, row_of("ada@example.com")).await.status, 502);
    cloud.stack().put_secret("LoopsToClaySecret", &to_clay(&[&clay])).await;
    cloud.stack().put_secret("ClayToLoopsSecret", &json!({"loops_api_key": "key", "relay_tokens": [token]})).await;
    eventually_within(Duration::from_secs(40), "both secrets in use", async || {
        let webhook = post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await;
        let row = relay_testkit::http::send("PUT", &url, &headers, row_of("ada@example.com")).await;
        ((webhook.status, row.status) == (200, 200)).then_some(())
    })
    .await;
}
