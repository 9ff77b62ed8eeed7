//! The webhooks of a workspace: accepted and rejected rows, limits, and the list of rows.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{HttpResponse, call, start_clay};
use crate::{Clay, ClayOptions};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(clay: &Clay, webhook: &str, body: &str) -> HttpResponse {
    call(clay.address(), &format!("POST /v3/sources/webhook/{webhook}"), &[JSON], body).await
}

#[tokio::test]
async fn accepted_row_is_stored_byte_for_byte() {
    let clay = start_clay(ClayOptions::default()).await;
    let body = "{ \"n\":123456789012345678901 ,\"name\": \"Zoë ✓\",\"n\": 1}";
    assert_eq!(post(&clay, "contacts", body).await.status, 200);
    let rows = clay.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].webhook.as_str(), rows[0].body.as_ref()), ("contacts", body.as_bytes()));
    assert!(clay.rejected_statuses().is_empty());
}

#[tokio::test]
async fn webhook_url_has_the_form_of_clay() {
    let clay = start_clay(ClayOptions::default()).await;
    let url = clay.webhook_url("contacts");
    assert_eq!(url, format!("http://127.0.0.1:{}/v3/sources/webhook/contacts", clay.address().port()));
}

#[tokio::test]
async fn json_array_is_stored_as_one_row() {
    let clay = start_clay(ClayOptions::default()).await;
    assert_eq!(post(&clay, "contacts", "[{},{}]").await.status, 200);
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn non_json_body_or_content_type_returns_400() {
    let clay = start_clay(ClayOptions::default()).await;
    let request_line = "POST /v3/sources/webhook/contacts";
    assert_eq!(call(clay.address(), request_line, &[], "{}").await.status, 400);
    assert_eq!(call(clay.address(), request_line, &[("content-type", "text/plain")], "{}").await.status, 400);
    assert_eq!(call(clay.address(), request_line, &[JSON], "{\"a\":").await.status, 400);
    assert_eq!(call(clay.address(), request_line, &[JSON], b"\"\xff\"").await.status, 400);
    let with_charset = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(call(clay.address(), request_line, &with_charset, "{}").await.status, 200);
    assert_eq!(clay.rejected_statuses(), [400; 4]);
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn put_to_webhook_returns_405() {
    let clay = start_clay(ClayOptions::default()).await;
    let response = call(clay.address(), "PUT /v3/sources/webhook/contacts", &[JSON], "{}").await;
    assert_eq!((response.status, clay.rejected_statuses()), (405, vec![405]));
}

#[tokio::test]
async fn row_over_size_limit_returns_400() {
    let clay = start_clay(ClayOptions::default()).await;
    let row = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert_eq!(post(&clay, "contacts", &row(100_000)).await.status, 200);
    assert_eq!(post(&clay, "contacts", &row(100_001)).await.status, 400);
    assert_eq!(post(&clay, "contacts", &row(3_000_000)).await.status, 400);
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn missing_or_wrong_token_returns_401() {
    let clay = start_clay(ClayOptions { auth_token: Some("secret".into()), ..ClayOptions::default() }).await;
    let request_line = "POST /v3/sources/webhook/contacts";
    assert_eq!(call(clay.address(), request_line, &[JSON], "{}").await.status, 401);
    assert_eq!(call(clay.address(), request_line, &[JSON, ("x-clay-webhook-auth", "Secret")], "{}").await.status, 401);
    assert_eq!(call(clay.address(), request_line, &[JSON, ("x-clay-webhook-auth", "secret")], "{}").await.status, 200);
    assert_eq!(clay.rejected_statuses(), [401, 401]);
}

#[tokio::test]
async fn row_above_rate_limit_returns_documented_429() {
    let clay = start_clay(ClayOptions { per_second: 1, burst: 3, ..ClayOptions::default() }).await;
    // All webhooks of a workspace share the limit.
    for webhook in ["one", "two", "three"] {
        assert_eq!(post(&clay, webhook, "{}").await.status, 200);
    }
    let rejected = loop {
        let response = post(&clay, "four", "{}").await;
        if response.status != 200 {
            break response;
        }
    };
    assert_eq!(rejected.status, 429);
    assert_eq!(rejected.header("retry-after"), Some("1"));
    assert_eq!(
        rejected.body,
        r#"{"type":"TooManyRequests","message":"Too many requests. Wait a bit and retry.","details":null}"#
    );
    assert_eq!(clay.rejected_statuses(), [429]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(post(&clay, "five", "{}").await.status, 200);
}

#[tokio::test]
async fn webhook_over_row_limit_returns_403_others_unaffected() {
    let clay = start_clay(ClayOptions { cap: 2, ..ClayOptions::default() }).await;
    assert_eq!(post(&clay, "old", "{}").await.status, 200);
    // A rejected row does not count.
    assert_eq!(post(&clay, "old", "no json").await.status, 400);
    assert_eq!(post(&clay, "old", "{}").await.status, 200);
    let response = post(&clay, "old", "{}").await;
    assert_eq!(response.status, 403);
    assert!(response.body.contains("Record limit reached for webhook"));
    assert_eq!(post(&clay, "new", "{}").await.status, 200);
    assert_eq!(clay.rejected_statuses(), [400, 403]);
}

#[tokio::test]
async fn get_rows_lists_accepted_rows() {
    let clay = start_clay(ClayOptions::default()).await;
    assert_eq!(call(clay.address(), "GET /rows", &[], "").await.json(), json!([]));
    post(&clay, "contacts", r#"{"email":"alex@example.com"}"#).await;
    post(&clay, "leads", "2").await;
    let rows = call(clay.address(), "GET /rows", &[], "").await.json();
    assert_eq!(rows[0]["webhook"], "contacts");
    assert_eq!(rows[0]["body"], json!({"email": "alex@example.com"}));
    assert_eq!(rows[0]["receivedAt"], clay.rows()[0].received_at.to_string());
    assert_eq!(rows[1]["body"], 2);
    assert!(call(clay.address(), "GET /", &[], "").await.body.contains("/rows"));
    assert_eq!(call(clay.address(), "GET /favicon.ico", &[], "").await.status, 404);
    assert!(clay.rejected_statuses().is_empty());
}

#[tokio::test]
async fn get_rows_with_wait_returns_once_rows_arrive() {
    let clay = start_clay(ClayOptions::default()).await;
    let started = Instant::now();
    let rows = async {
        post(&clay, "contacts", "1").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        post(&clay, "contacts", "2").await;
    };
    let (response, ()) = tokio::join!(call(clay.address(), "GET /rows?wait=2", &[], ""), rows);
    assert_eq!(response.json().as_array().map(Vec::len), Some(2));
    assert!(started.elapsed() < Duration::from_secs(9), "the response came with the rows, not after the maximum wait");
}
