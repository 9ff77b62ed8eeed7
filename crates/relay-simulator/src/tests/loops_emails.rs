//! Transactional e-mails: sent, listed, refused, and sent once with an idempotency key.

use serde_json::{Value, json};

use super::{AUTHORIZATION, HttpResponse, call, get, send, start_loops};
use crate::{CONFIRMATION_EMAIL_ID, Loops, RECEIPT_EMAIL_ID};

async fn send_email(loops: &Loops, body: Value, idempotency_key: Option<&str>) -> HttpResponse {
    let mut headers = vec![AUTHORIZATION];
    headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
    call(loops.address(), "POST /api/v1/transactional", &headers, body.to_string()).await
}

fn receipt() -> Value {
    json!({"transactionalId": RECEIPT_EMAIL_ID, "email": "ada@example.com"})
}

fn confirmation(variables: &Value) -> Value {
    json!({"transactionalId": CONFIRMATION_EMAIL_ID, "email": "ada@example.com", "dataVariables": variables})
}

#[tokio::test]
async fn sent_email_is_stored_whole_and_shown() {
    let loops = start_loops().await;
    let mut body = receipt();
    body["dataVariables"] = json!({"name": "Ada", "total": 12.5, "items": [{"name": "Book", "count": 2}, {}]});
    let response = send_email(&loops, body.clone(), Some("key-1")).await;
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"success":true}"#));
    let emails = loops.emails();
    assert_eq!((&emails[0].body, emails[0].idempotency_key.as_deref()), (&body, Some("key-1")));
    let shown = call(loops.address(), "GET /emails", &[], "").await.json();
    assert_eq!((&shown[0]["idempotencyKey"], &shown[0]["body"]), (&json!("key-1"), &body));
    assert_eq!(loops.calls()[0].path, "/api/v1/transactional");
}

#[tokio::test]
async fn email_creates_contact_only_when_asked() {
    let loops = start_loops().await;
    send_email(&loops, receipt(), None).await;
    assert!(loops.contacts().is_empty());
    let mut body = receipt();
    body["addToAudience"] = json!(true);
    for _ in 0..2 {
        assert_eq!(send_email(&loops, body.clone(), None).await.status, 200);
    }
    assert_eq!(loops.contacts().len(), 1);
    assert_eq!((&loops.contacts()[0]["email"], loops.emails().len()), (&json!("ada@example.com"), 3));
}

#[tokio::test]
async fn missing_required_variable_returns_documented_400() {
    let loops = start_loops().await;
    let message = "Missing required data variable(s): confirmationUrl";
    let documented = json!({
        "success": false, "message": message, "error": {"path": "dataVariables", "message": message},
        "transactionalId": CONFIRMATION_EMAIL_ID,
    });
    for variables in [json!({}), json!(null), json!({"confirmationUrl": ""}), json!({"ConfirmationUrl": "x"})] {
        let response = send_email(&loops, confirmation(&variables), None).await;
        assert_eq!((response.status, response.json()), (400, documented.clone()), "{variables}");
    }
    let variables = json!({"confirmationUrl": "https://example.com/".to_owned() + &"x".repeat(600)});
    assert_eq!(send_email(&loops, confirmation(&variables), None).await.status, 200);
}

#[tokio::test]
async fn variable_of_wrong_type_returns_400_with_its_name() {
    let loops = start_loops().await;
    for wrong in [json!(true), json!(null), json!({"a": 1}), json!(["a"]), json!([{"a": [1]}]), json!([{"a": true}])] {
        let response = send_email(&loops, confirmation(&json!({"confirmationUrl": "x", "items": wrong})), None).await;
        assert_eq!(response.status, 400, "{wrong}");
        assert!(response.message().starts_with("items must be"), "{wrong}");
        assert_eq!(response.json()["transactionalId"], CONFIRMATION_EMAIL_ID);
    }
    assert_eq!(send_email(&loops, confirmation(&json!(["a"])), None).await.status, 400);
    assert!(loops.emails().is_empty());
}

#[tokio::test]
async fn invalid_email_call_names_the_field() {
    let loops = start_loops().await;
    for (field, value, status) in [
        ("transactionalId", json!(null), 400),
        ("transactionalId", json!(7), 400),
        ("transactionalId", json!("cll42l54f20i1la0lfooe3z13"), 404),
        ("email", json!(""), 400),
        ("email", json!("nobody"), 400),
        ("addToAudience", json!("true"), 400),
    ] {
        let mut body = receipt();
        body[field] = value.clone();
        let response = send_email(&loops, body, None).await;
        assert_eq!(response.status, status, "{field} {value}");
        assert_eq!(response.json()["error"], json!({"path": field, "message": response.message()}));
    }
    assert_eq!(send_email(&loops, json!([]), None).await.status, 400);
    assert!(loops.emails().is_empty());
}

#[tokio::test]
async fn attachment_is_refused_as_not_enabled() {
    let loops = start_loops().await;
    let mut body = receipt();
    body["attachments"] = json!([{"filename": "a.txt", "contentType": "text/plain", "data": "YQ=="}]);
    let response = send_email(&loops, body.clone(), None).await;
    let message = "Attachments are not enabled for your account";
    let refusal = json!({"success": false, "message": message, "path": "attachments"});
    assert_eq!((response.status, response.json()), (400, refusal));
    body["attachments"] = json!([]);
    assert_eq!(send_email(&loops, body, None).await.status, 200);
}

#[tokio::test]
async fn body_of_an_email_may_have_4_megabytes() {
    let loops = start_loops().await;
    let body_of = |length: usize| {
        let body = receipt();
        let empty = json!({"transactionalId": body["transactionalId"], "email": body["email"], "pad": ""});
        let mut body = empty.clone();
        body["pad"] = json!("x".repeat(length.saturating_sub(empty.to_string().len())));
        body
    };
    assert_eq!(send_email(&loops, body_of(4_000_000), None).await.status, 200);
    assert_eq!(send_email(&loops, body_of(4_000_001), None).await.status, 413);
}

#[tokio::test]
async fn repeated_key_of_an_email_returns_409() {
    let loops = start_loops().await;
    assert_eq!(send_email(&loops, confirmation(&json!({})), Some("k")).await.status, 400);
    assert_eq!(send_email(&loops, receipt(), Some("k")).await.status, 200);
    let duplicate = send_email(&loops, receipt(), Some("k")).await;
    assert_eq!(duplicate.status, 409);
    assert_eq!(duplicate.message(), "Request with idempotency key k has already been processed.");
    let event = json!({"email": "ada@example.com", "eventName": "signup"});
    assert_eq!(send(&loops, event, Some("k")).await.status, 409);
    assert_eq!(send_email(&loops, receipt(), Some(&"k".repeat(101))).await.status, 400);
    assert_eq!((loops.emails().len(), loops.events().len()), (1, 0));
}

#[tokio::test]
async fn list_has_one_page_with_the_published_emails() {
    let loops = start_loops().await;
    let page = get(&loops, "transactional").await.json();
    let pagination = json!({
        "totalResults": 2, "returnedResults": 2, "perPage": 20, "totalPages": 1, "nextCursor": null, "nextPage": null,
    });
    assert_eq!(page["pagination"], pagination);
    let confirmation = json!({
        "id": CONFIRMATION_EMAIL_ID, "name": "Sign up confirmation", "lastUpdated": "2025-06-29T07:47:39.370Z",
        "dataVariables": ["confirmationUrl"],
    });
    assert_eq!(page["data"][0], confirmation);
    assert_eq!(get(&loops, "transactional?perPage=50&cursor=").await.json()["pagination"]["perPage"], 50);
    for invalid in ["perPage=9", "perPage=51", "perPage=all", "cursor=next"] {
        assert_eq!(get(&loops, &format!("transactional?{invalid}")).await.status, 400, "{invalid}");
    }
}
