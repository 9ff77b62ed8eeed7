//! The webhooks of a workspace: what they take, what they refuse, and the figures.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Answer, call, start_clay};
use crate::{Clay, ClayOptions};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(clay: &Clay, webhook: &str, body: &str) -> Answer {
    call(clay.address(), &format!("POST /v3/sources/webhook/{webhook}"), &[JSON], body).await
}

#[tokio::test]
async fn a_row_is_kept_byte_for_byte() {
    let clay = start_clay(ClayOptions::default()).await;
    let body = "{ \"n\":123456789012345678901 ,\"name\": \"Zoë ✓\",\"n\": 1}";
    assert_eq!(post(&clay, "contacts", body).await.status, 200);
    let rows = clay.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].webhook.as_str(), rows[0].body.as_ref()), ("contacts", body.as_bytes()));
    assert!(clay.refused().is_empty());
}

#[tokio::test]
async fn every_webhook_of_the_workspace_has_a_url() {
    let clay = start_clay(ClayOptions::default()).await;
    let url = clay.webhook_url("contacts");
    assert_eq!(url, format!("http://127.0.0.1:{}/v3/sources/webhook/contacts", clay.address().port()));
}

#[tokio::test]
async fn a_list_is_one_row() {
    let clay = start_clay(ClayOptions::default()).await;
    assert_eq!(post(&clay, "contacts", "[{},{}]").await.status, 200);
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn only_json_is_taken() {
    let clay = start_clay(ClayOptions::default()).await;
    let to = "POST /v3/sources/webhook/contacts";
    assert_eq!(call(clay.address(), to, &[], "{}").await.status, 400);
    assert_eq!(call(clay.address(), to, &[("content-type", "text/plain")], "{}").await.status, 400);
    assert_eq!(call(clay.address(), to, &[JSON], "{\"a\":").await.status, 400);
    assert_eq!(call(clay.address(), to, &[JSON], b"\"\xff\"").await.status, 400);
    let with_charset = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(call(clay.address(), to, &with_charset, "{}").await.status, 200);
    assert_eq!(clay.refused(), [400; 4]);
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn only_post_is_taken() {
    let clay = start_clay(ClayOptions::default()).await;
    let answer = call(clay.address(), "PUT /v3/sources/webhook/contacts", &[JSON], "{}").await;
    assert_eq!((answer.status, clay.refused()), (405, vec![405]));
}

#[tokio::test]
async fn a_row_over_the_limit_is_a_400() {
    let clay = start_clay(ClayOptions::default()).await;
    let row = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert_eq!(post(&clay, "contacts", &row(100_000)).await.status, 200);
    assert_eq!(post(&clay, "contacts", &row(100_001)).await.status, 400);
    assert_eq!(post(&clay, "contacts", &row(3_000_000)).await.status, 400);
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn the_token_must_be_the_right_one() {
    let clay = start_clay(ClayOptions { auth_token: Some("secret".to_owned()), ..ClayOptions::default() }).await;
    let to = "POST /v3/sources/webhook/contacts";
    assert_eq!(call(clay.address(), to, &[JSON], "{}").await.status, 401);
    assert_eq!(call(clay.address(), to, &[JSON, ("x-clay-webhook-auth", "Secret")], "{}").await.status, 401);
    assert_eq!(call(clay.address(), to, &[JSON, ("x-clay-webhook-auth", "secret")], "{}").await.status, 200);
    assert_eq!(clay.refused(), [401, 401]);
}

#[tokio::test]
async fn above_the_rate_a_row_is_dropped_with_the_documented_answer() {
    let clay = start_clay(ClayOptions { per_second: 1, burst: 3, ..ClayOptions::default() }).await;
    // The limit is the workspace's, whatever the webhook.
    for webhook in ["one", "two", "three"] {
        assert_eq!(post(&clay, webhook, "{}").await.status, 200);
    }
    let refused = loop {
        let answer = post(&clay, "four", "{}").await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.body,
        r#"{"type":"TooManyRequests","message":"Too many requests. Wait a bit and retry.","details":null}"#
    );
    assert_eq!(clay.refused(), [429]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(post(&clay, "five", "{}").await.status, 200);
}

#[tokio::test]
async fn a_webhook_is_used_up_for_life_and_its_neighbour_is_not() {
    let clay = start_clay(ClayOptions { cap: 2, ..ClayOptions::default() }).await;
    assert_eq!(post(&clay, "old", "{}").await.status, 200);
    // What is refused does not count.
    assert_eq!(post(&clay, "old", "no json").await.status, 400);
    assert_eq!(post(&clay, "old", "{}").await.status, 200);
    let answer = post(&clay, "old", "{}").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("Record limit reached for webhook"));
    assert_eq!(post(&clay, "new", "{}").await.status, 200);
    assert_eq!(clay.refused(), [400, 403]);
}

#[tokio::test]
async fn rows_are_there_to_be_looked_at() {
    let clay = start_clay(ClayOptions::default()).await;
    assert_eq!(call(clay.address(), "GET /rows", &[], "").await.json(), json!([]));
    post(&clay, "contacts", r#"{"email":"alex@example.com"}"#).await;
    post(&clay, "leads", "2").await;
    let shown = call(clay.address(), "GET /rows", &[], "").await.json();
    assert_eq!(shown[0]["webhook"], "contacts");
    assert_eq!(shown[0]["body"], json!({"email": "alex@example.com"}));
    assert_eq!(shown[0]["receivedAt"], clay.rows()[0].received_at.to_string());
    assert_eq!(shown[1]["body"], 2);
    assert!(call(clay.address(), "GET /", &[], "").await.body.contains("/rows"));
    assert_eq!(call(clay.address(), "GET /favicon.ico", &[], "").await.status, 404);
    assert!(clay.refused().is_empty());
}

#[tokio::test]
async fn whoever_waits_for_rows_is_answered_when_they_are_there() {
    let clay = start_clay(ClayOptions::default()).await;
    let started = Instant::now();
    let rows = async {
        post(&clay, "contacts", "1").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        post(&clay, "contacts", "2").await;
    };
    let (shown, ()) = tokio::join!(call(clay.address(), "GET /rows?wait=2", &[], ""), rows);
    assert_eq!(shown.json().as_array().map(Vec::len), Some(2));
    assert!(started.elapsed() < Duration::from_secs(9), "the answer came with the rows, not with the end of the wait");
}
