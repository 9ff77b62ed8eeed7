//! Events, and the idempotency keys that prevent duplicates.

use serde_json::json;

use super::{send, start_loops};

#[tokio::test]
async fn accepted_event_is_stored_and_updates_its_contact() {
    let loops = start_loops().await;
    let body = json!({"email": "a@example.com", "eventName": "signup", "eventProperties": {"plan": "pro", "seats": 3},
        "mailingLists": {"one": true}, "favoriteColor": "blue"});
    let response = send(&loops, body.clone(), Some("key-1")).await;
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"success":true}"#));
    let events = loops.events();
    assert_eq!((&events[0].body, events[0].idempotency_key.as_deref()), (&body, Some("key-1")));
    let contact = &loops.contacts()[0];
    assert_eq!((&contact["favoriteColor"], &contact["mailingLists"]), (&json!("blue"), &json!({"one": true})));
    assert_eq!((contact.get("eventName"), contact.get("eventProperties")), (None, None));
}

#[tokio::test]
async fn event_without_name_or_with_nested_value_returns_400() {
    let loops = start_loops().await;
    for invalid in [
        json!({"email": "a@example.com"}),
        json!({"email": "a@example.com", "eventName": ""}),
        json!({"email": "a@example.com", "eventName": 1}),
        json!({"eventName": "signup"}),
        json!({"email": "a@example.com", "eventName": "signup", "eventProperties": "plan"}),
        json!({"email": "a@example.com", "eventName": "signup", "eventProperties": {"plan": {}}}),
        json!({"email": "a@example.com", "eventName": "signup", "eventProperties": {"bio": "x".repeat(499)}}),
    ] {
        assert_eq!(send(&loops, invalid.clone(), None).await.status, 400, "{invalid}");
    }
    assert!(loops.events().is_empty() && loops.contacts().is_empty());
}

#[tokio::test]
async fn repeated_idempotency_key_returns_409_for_any_body() {
    let loops = start_loops().await;
    let signup = json!({"email": "a@example.com", "eventName": "signup"});
    assert_eq!(send(&loops, json!({"email": "a@example.com"}), Some("k")).await.status, 400);
    assert_eq!(send(&loops, signup.clone(), Some("k")).await.status, 200);
    let duplicate = send(&loops, json!({"email": "b@example.com", "eventName": "other"}), Some("k")).await;
    assert_eq!(duplicate.status, 409);
    assert_eq!(duplicate.message(), "Request with idempotency key k has already been processed.");
    assert_eq!(send(&loops, signup.clone(), Some(&"k".repeat(100))).await.status, 200);
    assert_eq!(send(&loops, signup.clone(), Some(&"k".repeat(101))).await.status, 400);
    assert_eq!(send(&loops, signup.clone(), None).await.status, 200);
    assert_eq!(send(&loops, signup, None).await.status, 200);
    assert_eq!(loops.events().len(), 4);
    assert_eq!(loops.rejected_statuses(), [400, 409, 400]);
}
