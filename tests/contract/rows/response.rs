//! Headers and further fields of the response to a row.

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, contact, event, send, send_without_token};
use serde_json::json;

use super::{ROUTES, assert_queued, contact_row, row_for, row_on, start_loops, start_relay};

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.get(name).map(String::as_str)
}

fn delivery_id(response: &Response) -> String {
    let id = header(response, "x-relay-delivery-id").unwrap_or_default().to_owned();
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(plain && (1..=80).contains(&id.len()), "{id:?} of {response:?}");
    id
}

#[tokio::test]
async fn async_preference_is_confirmed_in_a_header() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for route in ROUTES {
        let row = row_on(route, &format!("{}@example.com", route.method()));
        let response = send(relay.base(), route, "", &[("prefer", "wait=5, respond-async")], row).await;
        assert_queued(&response);
        assert_eq!(header(&response, "preference-applied"), Some("respond-async"));
    }
}

#[tokio::test]
async fn preference_applied_only_when_requested_and_met() {
    let loops = MockDestination::start(Reply::status(500)).await;
    let relay = start_relay(&loops, &[]).await;
    let queued = contact(relay.base(), contact_row("ada@example.com")).await;
    assert_queued(&queued);
    assert_eq!(header(&queued, "preference-applied"), None);
    let prefer = [("prefer", "respond-async")];
    let rejected = send(relay.base(), Route::Contact, "", &prefer, "{}").await;
    rejected.assert_error_response(400, "missing_field", Some("email"));
    assert_eq!(header(&rejected, "preference-applied"), None);
}

#[tokio::test]
async fn every_row_response_carries_a_unique_delivery_id() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let mut ids = Vec::new();
    for route in ROUTES {
        let row = row_on(route, "ada@example.com");
        loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"No."}"#)]);
        ids.push(delivery_id(&send(relay.base(), route, "long=reject", &[], row.clone()).await));
        ids.push(delivery_id(&send(relay.base(), route, "", &[], "{}").await));
        ids.push(delivery_id(&send(relay.base(), route, "blank=?", &[], row.clone()).await));
        ids.push(delivery_id(&send(relay.base(), route, "", &[], " ".repeat(300_000)).await));
        ids.push(delivery_id(&send_without_token(relay.base(), route, "", &[], row).await));
    }
    let unique_ids: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(unique_ids.len(), ids.len(), "{ids:?}");
    let log = relay.log();
    assert!(ids.iter().all(|id| log.contains(id)), "a refusal is found in the log by its id");
}

#[tokio::test]
async fn event_keeps_one_delivery_id_across_responses() {
    let loops = start_loops().await;
    loops.enqueue_replies([Reply::status(500), Reply::status(500)]);
    let relay = start_relay(&loops, &[]).await;
    let queued = event(relay.base(), row_for("ada@example.com")).await;
    let id = assert_queued(&queued);
    assert_eq!(delivery_id(&queued), id);
    relay.wait_for_state("delivered").await;
    let repeat = event(relay.base(), row_for("ada@example.com")).await;
    assert_eq!((repeat.json()["duplicate"].as_bool(), delivery_id(&repeat)), (Some(true), id));
}

#[tokio::test]
async fn adjusted_fields_are_listed_in_a_header_beside_loops_body() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let row = json!({"email": "ada@example.com", "userId": "", "First Name": null, "eventName": "x",
                     "bio": "x".repeat(499), "mailingLists": {"a": "", "b": true},
                     "eventProperties": {"plan": " ", "né,": "", "n": 1}});
    loops.enqueue_replies([Reply::json(200, "{ \"success\": true,\t\"id\":\"c1\" }")]);
    let response = send(relay.base(), Route::Event, "long=truncate", &[], row.to_string()).await;
    assert_eq!((response.status, response.text().as_str()), (200, "{ \"success\": true,\t\"id\":\"c1\" }"));
    let expected = "userId, First%20Name, bio, mailingLists.a, eventProperties.plan, eventProperties.n%C3%A9%2C";
    let listed = header(&response, "x-relay-adjusted").unwrap_or_default();
    let sorted = |list: &str| {
        let mut names: Vec<String> = list.split(", ").map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(listed), sorted(expected));

    let plain = contact(relay.base(), contact_row("bob@example.com")).await;
    assert_eq!(header(&plain, "x-relay-adjusted"), None, "nothing was left out or cut");
}

#[tokio::test]
async fn rejection_by_loops_lists_adjusted_fields_too() {
    let loops = MockDestination::start(Reply::json(400, r#"{"success":false,"message":"No."}"#)).await;
    let relay = start_relay(&loops, &[]).await;
    let response = contact(relay.base(), r#"{"email":"ada@example.com","plan":""}"#).await;
    response.assert_error_response(400, "loops_rejected", None);
    assert_eq!(header(&response, "x-relay-adjusted"), Some("plan"));
}

#[tokio::test]
async fn queued_response_lists_adjusted_fields_in_its_body_only() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let prefer = [("prefer", "respond-async")];
    let row = r#"{"email":"ada@example.com","plan":"","First Name":null}"#;
    let response = send(relay.base(), Route::Contact, "", &prefer, row).await;
    let id = delivery_id(&response);
    let expected = json!({"success": true, "status": "queued", "deliveryId": id, "adjusted": ["plan", "First Name"]});
    assert_eq!((response.status, response.json()), (202, expected));
    assert_eq!(header(&response, "x-relay-adjusted"), None);
    let plain = send(relay.base(), Route::Contact, "", &prefer, contact_row("bob@example.com")).await;
    assert_eq!(plain.json().get("adjusted"), None);
}

#[tokio::test]
async fn long_adjusted_list_in_a_202_body_ends_with_a_count() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let blanks: String =
        (0..499).map(|number| format!(",\"a column with a rather long name {number}\":\"\"")).collect();
    let row = format!("{{\"email\":\"ada@example.com\"{blanks}}}");
    let response = send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await;
    assert_queued(&response);
    let body = response.json();
    let adjusted: Vec<&str> = body["adjusted"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    let omitted_count: usize =
        adjusted.last().and_then(|last| last.strip_prefix('+')?.parse().ok()).unwrap_or_default();
    assert_eq!(adjusted.len() - 1 + omitted_count, 499);
    assert!(adjusted.len() < 60, "{}", adjusted.len());
}

#[tokio::test]
async fn long_adjusted_list_in_the_header_ends_with_a_count() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let blanks: String =
        (0..499).map(|number| format!(",\"a column with a rather long name {number}\":\"\"")).collect();
    let response = contact(relay.base(), format!("{{\"email\":\"ada@example.com\"{blanks}}}")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let adjusted = header(&response, "x-relay-adjusted").unwrap_or_default();
    let omitted_count: usize =
        adjusted.rsplit_once(", +").and_then(|(_, count)| count.parse().ok()).unwrap_or_default();
    assert_eq!(adjusted.split(", ").count() - 1 + omitted_count, 499);
    assert!(adjusted.len() < 2100, "{}", adjusted.len());
}
