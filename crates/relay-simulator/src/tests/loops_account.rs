//! API key, rate limit, routes, and the pages that list contacts and events.

use serde_json::{Value, json};

use super::{AUTHORIZATION, call, get, listener, send, start_loops, update};
use crate::{Loops, LoopsOptions};

#[tokio::test]
async fn unauthorized_call_returns_401_without_using_quota() {
    let loops = Loops::start(listener().await, LoopsOptions::default()).await.expect("an address");
    for headers in [vec![], vec![("authorization", "Bearer other")], vec![("authorization", "simulated")]] {
        let response = call(loops.address(), "GET /api/v1/api-key", &headers, "").await;
        assert_eq!(response.status, 401);
        assert_eq!(response.body, r#"{"success":false,"message":"Invalid API key","error":"Invalid API key"}"#);
        assert_eq!((response.header("x-ratelimit-limit"), response.header("x-ratelimit-remaining")), (None, None));
    }
    let response = get(&loops, "api-key").await;
    assert_eq!(response.json(), json!({"success": true, "teamName": "Simulated team"}));
    assert_eq!(
        (response.header("x-ratelimit-limit"), response.header("x-ratelimit-remaining")),
        (Some("10"), Some("9"))
    );
    assert_eq!(loops.rejected_statuses(), [401; 3]);
}

#[tokio::test]
async fn call_above_rate_limit_returns_429() {
    let options = LoopsOptions { per_second: 1, ..LoopsOptions::default() };
    let loops = Loops::start(listener().await, options).await.expect("an address");
    let rejected = loop {
        let response = get(&loops, "api-key").await;
        if response.status != 200 {
            break response;
        }
    };
    assert_eq!((rejected.status, rejected.message().as_str()), (429, "Rate limit exceeded"));
    assert_eq!(
        (rejected.header("x-ratelimit-limit"), rejected.header("x-ratelimit-remaining")),
        (Some("1"), Some("0"))
    );
    assert_eq!(loops.rejected_statuses(), [429]);
}

#[tokio::test]
async fn wrong_method_or_path_returns_rate_limit_headers() {
    let loops = start_loops().await;
    for (request_line, status) in [
        ("POST /api/v1/contacts/update", 405),
        ("PUT /api/v1/contacts/create", 405),
        ("POST /api/v1/contacts/find", 405),
        ("DELETE /api/v1/contacts/delete", 405),
        ("POST /api/v1/contacts/suppression", 405),
        ("PUT /api/v1/transactional", 405),
        ("GET /api/v1/events/send", 405),
        ("POST /api/v1/api-key", 405),
        ("PUT /api/v1/contacts/properties", 405),
        ("POST /api/v1/lists", 405),
        ("GET /api/v1/nothing", 404),
    ] {
        let response = call(loops.address(), request_line, &[AUTHORIZATION], "{}").await;
        assert_eq!(response.status, status, "{request_line}");
        assert!(response.header("x-ratelimit-remaining").is_some(), "{request_line}");
    }
    assert_eq!(loops.rejected_statuses(), [405, 405, 405, 405, 405, 405, 405, 405, 405, 405, 404]);
}

#[tokio::test]
async fn properties_and_lists_endpoints_return_their_items() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "favoriteColor": "blue", "seats": 3})).await;
    let custom = json!([
        {"key": "favoriteColor", "label": "Favorite color", "type": "string"},
        {"key": "seats", "label": "Seats", "type": "number"},
    ]);
    assert_eq!(get(&loops, "contacts/properties?list=custom").await.json(), custom);
    let all_properties = get(&loops, "contacts/properties").await.json();
    let keys: Vec<&str> =
        all_properties.as_array().expect("a list").iter().filter_map(|one| one["key"].as_str()).collect();
    assert!(["firstName", "email", "createdAt", "favoriteColor"].iter().all(|key| keys.contains(key)), "{keys:?}");
    assert_eq!(get(&loops, "lists").await.json()[1]["description"], Value::Null);
}

#[tokio::test]
async fn accepted_calls_are_recorded_in_order() {
    let loops = start_loops().await;
    let body = json!({"email": "a@example.com", "eventName": "signup"});
    send(&loops, body.clone(), Some("k")).await;
    get(&loops, "lists").await;
    let calls = loops.calls();
    assert_eq!((calls[0].path.as_str(), calls[0].idempotency_key.as_deref()), ("/api/v1/events/send", Some("k")));
    assert_eq!(calls[0].body, body.to_string());
    assert_eq!((calls[1].path.as_str(), calls[1].body.len()), ("/api/v1/lists", 0));
    assert_eq!(loops.api_url(), format!("http://{}/api", loops.address()));
}

#[tokio::test]
async fn contacts_and_events_pages_list_accepted_items() {
    let loops = start_loops().await;
    send(&loops, json!({"email": "a@example.com", "eventName": "signup"}), Some("k")).await;
    let contacts = call(loops.address(), "GET /contacts", &[], "").await.json();
    assert_eq!(contacts[0]["email"], "a@example.com");
    let events = call(loops.address(), "GET /events", &[], "").await.json();
    assert_eq!((&events[0]["idempotencyKey"], &events[0]["body"]["eventName"]), (&json!("k"), &json!("signup")));
    assert!(call(loops.address(), "GET /", &[], "").await.body.contains("/contacts"));
}

#[tokio::test]
async fn request_outside_api_is_not_recorded_as_rejected() {
    let loops = start_loops().await;
    assert_eq!(call(loops.address(), "GET /favicon.ico", &[], "").await.status, 404);
    assert!(loops.rejected_statuses().is_empty());
}
