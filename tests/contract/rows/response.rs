//! What an answer to a row says beside its status and its body.

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, contact, event, send, send_without_token};
use serde_json::json;

use super::{ROUTES, assert_queued, loops, relay_to, row_of};

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(String::as_str)
}

fn delivery_id(answer: &Response) -> String {
    let id = header(answer, "x-relay-delivery-id").unwrap_or_default().to_owned();
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(plain && (1..=80).contains(&id.len()), "{id:?} of {answer:?}");
    id
}

#[tokio::test]
async fn who_prefers_an_answer_at_once_is_told_that_it_is_one() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for route in ROUTES {
        let row = row_of(&format!("{}@example.com", route.method()));
        let answer = send(relay.base(), route, "", &[("prefer", "wait=5, respond-async")], row).await;
        assert_queued(&answer);
        assert_eq!(header(&answer, "preference-applied"), Some("respond-async"));
    }
}

#[tokio::test]
async fn a_preference_that_was_not_expressed_or_not_met_is_not_said_to_be_applied() {
    let loops = MockDestination::start(Reply::status(500)).await;
    let relay = relay_to(&loops, &[]).await;
    let stored = contact(relay.base(), row_of("ada@example.com")).await;
    assert_queued(&stored);
    assert_eq!(header(&stored, "preference-applied"), None);
    let prefer = [("prefer", "respond-async")];
    let refused = send(relay.base(), Route::Contact, "", &prefer, "{}").await;
    refused.assert_error_response(400, "missing_field", Some("email"));
    assert_eq!(header(&refused, "preference-applied"), None);
}

#[tokio::test]
async fn every_answer_to_a_row_carries_the_id_of_its_delivery_or_one_of_its_own() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let mut ids = Vec::new();
    for route in ROUTES {
        let row = row_of("ada@example.com");
        loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"No."}"#)]);
        ids.push(delivery_id(&send(relay.base(), route, "long=reject", &[], row.clone()).await));
        ids.push(delivery_id(&send(relay.base(), route, "", &[], "{}").await));
        ids.push(delivery_id(&send(relay.base(), route, "blank=?", &[], row.clone()).await));
        ids.push(delivery_id(&send(relay.base(), route, "", &[], " ".repeat(300_000)).await));
        ids.push(delivery_id(&send_without_token(relay.base(), route, "", &[], row).await));
    }
    let different: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    let log = relay.log();
    assert!(ids.iter().all(|id| log.contains(id)), "a refusal is found in the log by its id");
}

#[tokio::test]
async fn an_event_has_one_id_from_its_first_answer_to_its_last() {
    let loops = loops().await;
    loops.enqueue_replies([Reply::status(500), Reply::status(500)]);
    let relay = relay_to(&loops, &[]).await;
    let queued = event(relay.base(), row_of("ada@example.com")).await;
    let id = assert_queued(&queued);
    assert_eq!(delivery_id(&queued), id);
    relay.wait_for_state("delivered").await;
    let again = event(relay.base(), row_of("ada@example.com")).await;
    assert_eq!((again.json()["duplicate"].as_bool(), delivery_id(&again)), (Some(true), id));
}

#[tokio::test]
async fn what_was_left_out_or_cut_is_told_in_a_header_beside_loops_own_body() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let row = json!({"email": "ada@example.com", "userId": "", "First Name": null, "eventName": "x",
                     "bio": "x".repeat(499), "mailingLists": {"a": "", "b": true},
                     "eventProperties": {"plan": " ", "né,": "", "n": 1}});
    loops.enqueue_replies([Reply::json(200, "{ \"success\": true,\t\"id\":\"c1\" }")]);
    let answer = send(relay.base(), Route::Event, "long=truncate", &[], row.to_string()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{ \"success\": true,\t\"id\":\"c1\" }"));
    let told = "userId, First%20Name, bio, mailingLists.a, eventProperties.plan, eventProperties.n%C3%A9%2C";
    let listed = header(&answer, "x-relay-adjusted").unwrap_or_default();
    let sorted = |list: &str| {
        let mut names: Vec<String> = list.split(", ").map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(listed), sorted(told));

    let plain = contact(relay.base(), row_of("bob@example.com")).await;
    assert_eq!(header(&plain, "x-relay-adjusted"), None, "nothing was left out or cut");
}

#[tokio::test]
async fn a_row_that_loops_refuses_says_too_what_was_left_out() {
    let loops = MockDestination::start(Reply::json(400, r#"{"success":false,"message":"No."}"#)).await;
    let relay = relay_to(&loops, &[]).await;
    let answer = contact(relay.base(), r#"{"email":"ada@example.com","plan":""}"#).await;
    answer.assert_error_response(400, "loops_rejected", None);
    assert_eq!(header(&answer, "x-relay-adjusted"), Some("plan"));
}

#[tokio::test]
async fn a_202_tells_in_its_body_what_was_left_out_and_in_no_header() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let prefer = [("prefer", "respond-async")];
    let row = r#"{"email":"ada@example.com","plan":"","First Name":null}"#;
    let answer = send(relay.base(), Route::Contact, "", &prefer, row).await;
    let id = delivery_id(&answer);
    let told = json!({"success": true, "status": "queued", "deliveryId": id, "adjusted": ["plan", "First Name"]});
    assert_eq!((answer.status, answer.json()), (202, told));
    assert_eq!(header(&answer, "x-relay-adjusted"), None);
    let plain = send(relay.base(), Route::Contact, "", &prefer, row_of("bob@example.com")).await;
    assert_eq!(plain.json().get("adjusted"), None);
}

#[tokio::test]
async fn very_many_names_are_counted_in_the_list_of_a_202() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let blanks: String =
        (0..499).map(|number| format!(",\"a column with a rather long name {number}\":\"\"")).collect();
    let row = format!("{{\"email\":\"ada@example.com\"{blanks}}}");
    let answer = send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await;
    assert_queued(&answer);
    let told = answer.json();
    let told: Vec<&str> = told["adjusted"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    let counted: usize = told.last().and_then(|last| last.strip_prefix('+')?.parse().ok()).unwrap_or_default();
    assert_eq!(told.len() - 1 + counted, 499);
    assert!(told.len() < 60, "{}", told.len());
}

#[tokio::test]
async fn very_many_names_are_counted_in_the_header() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let blanks: String =
        (0..499).map(|number| format!(",\"a column with a rather long name {number}\":\"\"")).collect();
    let answer = contact(relay.base(), format!("{{\"email\":\"ada@example.com\"{blanks}}}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = header(&answer, "x-relay-adjusted").unwrap_or_default();
    let counted: usize = told.rsplit_once(", +").and_then(|(_, count)| count.parse().ok()).unwrap_or_default();
    assert_eq!(told.split(", ").count() - 1 + counted, 499);
    assert!(told.len() < 2100, "{}", told.len());
}
