//! Contacts: created, matched, updated, cleared, suppressed, deleted, rejected.

use serde_json::{Value, json};

use super::{AUTHORIZATION, HttpResponse, call, create, get, send, start_loops, update};
use crate::Loops;

async fn delete(loops: &Loops, body: Value) -> HttpResponse {
    call(loops.address(), "POST /api/v1/contacts/delete", &[AUTHORIZATION], body.to_string()).await
}

async fn remove_suppression(loops: &Loops, query: &str) -> HttpResponse {
    let request_line = format!("DELETE /api/v1/contacts/suppression?{query}");
    call(loops.address(), &request_line, &[AUTHORIZATION], "").await
}

#[tokio::test]
async fn new_contact_has_documented_loops_fields() {
    let loops = start_loops().await;
    let lists = json!({"joined": true, "left": false});
    let body = json!({"email": "alex@example.com", "userId": "u1", "companyRole": "Developer", "mailingLists": lists});
    let response = update(&loops, body).await;
    assert_eq!(response.status, 200);
    let id = response.json()["id"].as_str().expect("an id").to_owned();
    assert!(id.len() >= 24 && id.starts_with('c') && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
    let contact = json!({
        "id": id, "email": "alex@example.com", "firstName": null, "lastName": null, "source": "API",
        "subscribed": true, "userGroup": "", "userId": "u1", "companyRole": "Developer",
        "mailingLists": {"joined": true}, "optInStatus": null,
    });
    assert_eq!(get(&loops, "contacts/find?email=alex%40example.com").await.json(), json!([contact]));
    assert_eq!(loops.contacts(), [contact]);
}

#[tokio::test]
async fn update_matches_either_id_and_overwrites_the_other() {
    let loops = start_loops().await;
    let first = update(&loops, json!({"email": "alex@example.com", "firstName": "Alex"})).await.json();
    assert_eq!(update(&loops, json!({"email": "ALEX@example.com", "userId": "u1"})).await.json(), first);
    assert_eq!(update(&loops, json!({"email": "new@example.com", "userId": "u1"})).await.json(), first);
    let contact = &loops.contacts()[0];
    assert_eq!((&contact["email"], &contact["userId"]), (&json!("new@example.com"), &json!("u1")));
    assert_eq!(contact["firstName"], "Alex");
}

#[tokio::test]
async fn update_matching_two_contacts_returns_400() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "userId": "u1"})).await;
    update(&loops, json!({"email": "b@example.com", "userId": "u2"})).await;
    let response = update(&loops, json!({"email": "a@example.com", "userId": "u2"})).await;
    assert_eq!((response.status, response.message().as_str()), (400, "Multiple contacts found for the given criteria"));
}

#[tokio::test]
async fn unknown_user_id_without_email_creates_no_contact() {
    let loops = start_loops().await;
    assert_eq!(update(&loops, json!({"userId": "u1"})).await.status, 400);
    assert_eq!(send(&loops, json!({"userId": "u1", "eventName": "signup"}), None).await.status, 400);
    assert!(loops.contacts().is_empty() && loops.events().is_empty() && loops.calls().is_empty());
    assert_eq!(loops.rejected_statuses(), [400, 400]);
}

#[tokio::test]
async fn null_clears_property_and_omission_preserves_it() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "firstName": "Al", "source": "Clay", "plan": "pro", "n": 1})).await;
    update(&loops, json!({"email": "a@example.com", "firstName": null, "source": null, "plan": null})).await;
    let contact = &loops.contacts()[0];
    assert_eq!((&contact["firstName"], &contact["source"], &contact["n"]), (&Value::Null, &json!("API"), &json!(1)));
    assert_eq!(contact.get("plan"), None);
}

#[tokio::test]
async fn numbers_are_stored_digit_for_digit() {
    let loops = start_loops().await;
    let body = r#"{"email":"a@example.com","big":123456789012345678901,"price":1.10}"#;
    call(loops.address(), "PUT /api/v1/contacts/update", &[AUTHORIZATION], body).await;
    let found = get(&loops, "contacts/find?email=a@example.com").await.body;
    assert!(found.contains(r#""big":123456789012345678901,"price":1.10"#), "{found}");
}

#[tokio::test]
async fn duplicate_create_returns_409() {
    let loops = start_loops().await;
    assert_eq!(create(&loops, json!({"userId": "u1"})).await.status, 400);
    assert_eq!(create(&loops, json!({"email": "a@example.com", "userId": "u1"})).await.status, 200);
    assert_eq!(create(&loops, json!({"email": "a@example.com"})).await.status, 409);
    assert_eq!(create(&loops, json!({"email": "b@example.com", "userId": "u1"})).await.status, 409);
    assert_eq!(loops.contacts().len(), 1);
}

#[tokio::test]
async fn find_requires_exactly_one_id() {
    let loops = start_loops().await;
    assert_eq!(get(&loops, "contacts/find?userId=u1").await.body, "[]");
    for invalid in ["", "?email=a@example.com&userId=u1", "?email=a@example.com&email=b@example.com", "?email=nobody"] {
        assert_eq!(get(&loops, &format!("contacts/find{invalid}")).await.status, 400, "{invalid}");
    }
}

#[tokio::test]
async fn contact_with_wrong_type_or_too_long_value_returns_400() {
    let loops = start_loops().await;
    let text_of = |characters: usize| "ë".repeat(characters);
    for invalid in [
        json!([]),
        json!("{}"),
        json!({}),
        json!({"email": 1}),
        json!({"email": ""}),
        json!({"email": "nobody"}),
        json!({"email": "a@example.com", "userId": 7}),
        json!({"email": "a@example.com", "subscribed": "true"}),
        json!({"email": "a@example.com", "mailingLists": ["one"]}),
        json!({"email": "a@example.com", "mailingLists": {"one": "true"}}),
        json!({"email": "a@example.com", "tags": ["one"]}),
        json!({"email": "a@example.com", "bio": text_of(499)}),
        json!({"email": "a@example.com", text_of(499): 1}),
    ] {
        let response = update(&loops, invalid.clone()).await;
        assert_eq!(response.status, 400, "{invalid}");
        assert!(!response.message().is_empty());
        assert_eq!(response.header("x-ratelimit-limit"), Some("10000"));
    }
    let malformed = call(loops.address(), "PUT /api/v1/contacts/update", &[AUTHORIZATION], "{").await;
    assert_eq!(malformed.status, 400);
    assert!(loops.contacts().is_empty());
    assert_eq!(update(&loops, json!({"email": "a@example.com", "bio": text_of(498)})).await.status, 200);
}

#[tokio::test]
async fn deleted_contact_is_gone_and_unknown_one_is_404() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "userId": "u1"})).await;
    update(&loops, json!({"email": "b@example.com"})).await;
    let deleted = delete(&loops, json!({"userId": "u1"})).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({"success": true, "message": "Contact deleted."})));
    let again = delete(&loops, json!({"userId": "u1"})).await;
    assert_eq!((again.status, again.message().as_str()), (404, "Contact not found."));
    assert_eq!(delete(&loops, json!({"email": "B@example.com"})).await.status, 200);
    assert!(loops.contacts().is_empty());
}

#[tokio::test]
async fn delete_requires_exactly_one_id() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "userId": "u1"})).await;
    for invalid in [
        json!({}),
        json!({"email": null, "userId": null}),
        json!({"email": "a@example.com", "userId": "u1"}),
        json!({"email": "nobody"}),
        json!({"userId": 7}),
        json!([]),
    ] {
        assert_eq!(delete(&loops, invalid.clone()).await.status, 400, "{invalid}");
    }
    assert_eq!(loops.contacts().len(), 1);
}

#[tokio::test]
async fn suppression_is_shown_and_removed_once() {
    let loops = start_loops().await;
    let id = update(&loops, json!({"email": "ada@bounces.example", "userId": "u1"})).await.json()["id"].clone();
    let status = |suppressed: bool, remaining: u32| {
        json!({
            "contact": {"id": id, "email": "ada@bounces.example", "userId": "u1"},
            "isSuppressed": suppressed, "removalQuota": {"limit": 100, "remaining": remaining},
        })
    };
    assert_eq!(get(&loops, "contacts/suppression?userId=u1").await.json(), status(true, 100));
    let removed = remove_suppression(&loops, "email=ada%40bounces.example").await;
    let quota = json!({"limit": 100, "remaining": 99});
    let answer = json!({"success": true, "message": "Email removed from suppression list.", "removalQuota": quota});
    assert_eq!((removed.status, removed.json()), (200, answer));
    assert_eq!(get(&loops, "contacts/suppression?userId=u1").await.json(), status(false, 99));
    assert_eq!(remove_suppression(&loops, "userId=u1").await.status, 400);
}

#[tokio::test]
async fn suppression_of_unknown_contact_is_404() {
    let loops = start_loops().await;
    assert_eq!(get(&loops, "contacts/suppression?email=a@example.com").await.message(), "Contact not found.");
    assert_eq!(remove_suppression(&loops, "userId=u1").await.status, 404);
    for invalid in ["", "?email=a@example.com&userId=u1", "?email=nobody"] {
        assert_eq!(get(&loops, &format!("contacts/suppression{invalid}")).await.status, 400, "{invalid}");
    }
}
