//! Events, and the keys that keep them from being sent twice.

use serde_json::json;

use super::{send, start_loops};

#[tokio::test]
async fn an_event_is_kept_and_updates_its_contact() {
    let loops = start_loops().await;
    let body = json!({"email": "a@example.com", "eventName": "signup", "eventProperties": {"plan": "pro", "seats": 3},
        "mailingLists": {"one": true}, "favoriteColor": "blue"});
    let answer = send(&loops, body.clone(), Some("key-1")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"success":true}"#));
    let events = loops.events();
    assert_eq!((&events[0].body, events[0].idempotency_key.as_deref()), (&body, Some("key-1")));
    let contact = &loops.contacts()[0];
    assert_eq!((&contact["favoriteColor"], &contact["mailingLists"]), (&json!("blue"), &json!({"one": true})));
    assert_eq!((contact.get("eventName"), contact.get("eventProperties")), (None, None));
}

#[tokio::test]
async fn an_event_needs_a_name_and_plain_properties() {
    let loops = start_loops().await;
    for wrong in [
        json!({"email": "a@example.com"}),
        json!({"email": "a@example.com", "eventName": ""}),
        json!({"email": "a@example.com", "eventName": 1}),
        json!({"eventName": "signup"}),
        json!({"email": "a@example.com", "eventName": "signup", "eventProperties": "plan"}),
        json!({"email": "a@example.com", "eventName": "signup", "eventProperties": {"plan": {}}}),
        json!({"email": "a@example.com", "eventName": "signup", "eventProperties": {"bio": "x".repeat(499)}}),
    ] {
        assert_eq!(send(&loops, wrong.clone(), None).await.status, 400, "{wrong}");
    }
    assert!(loops.events().is_empty() && loops.contacts().is_empty());
}

#[tokio::test]
async fn an_idempotency_key_works_once_whatever_the_body() {
    let loops = start_loops().await;
    let signup = json!({"email": "a@example.com", "eventName": "signup"});
    assert_eq!(send(&loops, json!({"email": "a@example.com"}), Some("k")).await.status, 400);
    assert_eq!(send(&loops, signup.clone(), Some("k")).await.status, 200);
    let repeat = send(&loops, json!({"email": "b@example.com", "eventName": "other"}), Some("k")).await;
    assert_eq!(repeat.status, 409);
    assert_eq!(repeat.message(), "Request with idempotency key k has already been processed.");
    assert_eq!(send(&loops, signup.clone(), Some(&"k".repeat(100))).await.status, 200);
    assert_eq!(send(&loops, signup.clone(), Some(&"k".repeat(101))).await.status, 400);
    assert_eq!(send(&loops, signup.clone(), None).await.status, 200);
    assert_eq!(send(&loops, signup, None).await.status, 200);
    assert_eq!(loops.events().len(), 4);
    assert_eq!(loops.refused(), [400, 409, 400]);
}
