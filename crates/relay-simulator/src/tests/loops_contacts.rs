//! Contacts: made, matched, changed, emptied, refused.

use serde_json::{Value, json};

use super::{KEY, call, create, get, send, start_loops, update};

#[tokio::test]
async fn a_new_contact_has_the_shape_that_loops_shows() {
    let loops = start_loops().await;
    let lists = json!({"joined": true, "left": false});
    let body = json!({"email": "alex@example.com", "userId": "u1", "companyRole": "Developer", "mailingLists": lists});
    let answer = update(&loops, body).await;
    assert_eq!(answer.status, 200);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
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
async fn an_update_matches_by_either_id_and_overwrites_the_other() {
    let loops = start_loops().await;
    let first = update(&loops, json!({"email": "alex@example.com", "firstName": "Alex"})).await.json();
    assert_eq!(update(&loops, json!({"email": "ALEX@example.com", "userId": "u1"})).await.json(), first);
    assert_eq!(update(&loops, json!({"email": "new@example.com", "userId": "u1"})).await.json(), first);
    let contact = &loops.contacts()[0];
    assert_eq!((&contact["email"], &contact["userId"]), (&json!("new@example.com"), &json!("u1")));
    assert_eq!(contact["firstName"], "Alex");
}

#[tokio::test]
async fn two_contacts_that_match_are_refused() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "userId": "u1"})).await;
    update(&loops, json!({"email": "b@example.com", "userId": "u2"})).await;
    let answer = update(&loops, json!({"email": "a@example.com", "userId": "u2"})).await;
    assert_eq!((answer.status, answer.message().as_str()), (400, "Multiple contacts found for the given criteria"));
}

#[tokio::test]
async fn a_user_id_that_nobody_has_makes_no_contact() {
    let loops = start_loops().await;
    assert_eq!(update(&loops, json!({"userId": "u1"})).await.status, 400);
    assert_eq!(send(&loops, json!({"userId": "u1", "eventName": "signup"}), None).await.status, 400);
    assert!(loops.contacts().is_empty() && loops.events().is_empty() && loops.calls().is_empty());
    assert_eq!(loops.refused(), [400, 400]);
}

#[tokio::test]
async fn null_empties_a_property_and_silence_leaves_it() {
    let loops = start_loops().await;
    update(&loops, json!({"email": "a@example.com", "firstName": "Al", "source": "Clay", "plan": "pro", "n": 1})).await;
    update(&loops, json!({"email": "a@example.com", "firstName": null, "source": null, "plan": null})).await;
    let contact = &loops.contacts()[0];
    assert_eq!((&contact["firstName"], &contact["source"], &contact["n"]), (&Value::Null, &json!("API"), &json!(1)));
    assert_eq!(contact.get("plan"), None);
}

#[tokio::test]
async fn numbers_are_kept_digit_for_digit() {
    let loops = start_loops().await;
    let body = r#"{"email":"a@example.com","big":123456789012345678901,"price":1.10}"#;
    call(loops.address(), "PUT /api/v1/contacts/update", &[KEY], body).await;
    let shown = get(&loops, "contacts/find?email=a@example.com").await.body;
    assert!(shown.contains(r#""big":123456789012345678901,"price":1.10"#), "{shown}");
}

#[tokio::test]
async fn create_makes_a_contact_once() {
    let loops = start_loops().await;
    assert_eq!(create(&loops, json!({"userId": "u1"})).await.status, 400);
    assert_eq!(create(&loops, json!({"email": "a@example.com", "userId": "u1"})).await.status, 200);
    assert_eq!(create(&loops, json!({"email": "a@example.com"})).await.status, 409);
    assert_eq!(create(&loops, json!({"email": "b@example.com", "userId": "u1"})).await.status, 409);
    assert_eq!(loops.contacts().len(), 1);
}

#[tokio::test]
async fn find_takes_exactly_one_id() {
    let loops = start_loops().await;
    assert_eq!(get(&loops, "contacts/find?userId=u1").await.body, "[]");
    for wrong in ["", "?email=a@example.com&userId=u1", "?email=a@example.com&email=b@example.com", "?email=nobody"] {
        assert_eq!(get(&loops, &format!("contacts/find{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn what_is_of_the_wrong_type_or_too_long_is_a_400() {
    let loops = start_loops().await;
    let long = |characters: usize| "ë".repeat(characters);
    for wrong in [
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
        json!({"email": "a@example.com", "bio": long(499)}),
        json!({"email": "a@example.com", long(499): 1}),
    ] {
        let answer = update(&loops, wrong.clone()).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(!answer.message().is_empty());
        assert_eq!(answer.header("x-ratelimit-limit"), Some("10000"));
    }
    let broken = call(loops.address(), "PUT /api/v1/contacts/update", &[KEY], "{").await;
    assert_eq!(broken.status, 400);
    assert!(loops.contacts().is_empty());
    assert_eq!(update(&loops, json!({"email": "a@example.com", "bio": long(498)})).await.status, 200);
}
