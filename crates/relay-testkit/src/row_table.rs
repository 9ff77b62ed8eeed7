//! The table of rows against a running relay, whatever it runs on.

use std::path::Path;

use crate::http::{self, Response};
use crate::mock_destination::{MockDestination, Reply};
use crate::row::Route;
use crate::row_cases::{Case, Expected, Group, groups};
use crate::{MAX_MESSAGE_CHARS, eventually};

/// Loads the groups of the table, either those without or those with properties of the account.
#[must_use]
pub fn load_groups(with_properties: bool) -> Vec<Group> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/rows");
    groups(&folder).into_iter().filter(|group| group.properties.is_some() == with_properties).collect()
}

/// Sends every case of a group to the relay at `base`, one after another, and compares the caller's response and the
/// request at Loops with the table. A row may be sent at once or queued first, as the rate limit permits.
///
/// If the group has properties, `loops` must reply with [`Group::properties`] before the relay starts.
///
/// # Panics
/// When a case differs from the table.
pub async fn run_group(base: &str, token: &str, loops: &MockDestination, group: &Group) {
    if group.properties.is_some() {
        wait_for_properties(base, token, loops).await;
    }
    let (mut mismatches, mut sent) = (Vec::new(), 0);
    let run_id: u32 = rand::random_range(1_000_000..10_000_000);
    for (number, case) in group.cases.iter().enumerate() {
        let id = format!("{run_id}{number:03}");
        let case = case.with_id(&id);
        let response = send(base, token, &case).await;
        let difference = match &case.expected {
            Expected::Sent(body) => {
                sent += 1;
                difference_of_sent(&response, loops, &id, body, &case).await
            }
            Expected::Rejected { .. } => difference_of_rejected(&response, &case),
        };
        mismatches.extend(difference.map(|difference| format!("{}: {difference}", case.name)));
    }
    assert!(mismatches.is_empty(), "{} of {}:\n{}", mismatches.len(), group.cases.len(), mismatches.join("\n"));
    let run_id = run_id.to_string();
    let received = loops.received().iter().filter(|request| request.text().contains(&run_id)).count();
    assert_eq!(received, sent, "what was refused was sent, or something was sent twice");
}

/// Returns the reply of a Loops that has the group's properties.
///
/// # Panics
/// When the group has none.
#[must_use]
pub fn properties_reply(group: &Group) -> Reply {
    let list = group.properties.as_ref().unwrap_or_else(|| panic!("a group without properties"));
    Reply::json(200, &list.to_string())
}

async fn send(base: &str, token: &str, case: &Case) -> Response {
    let route = if case.event { Route::Event } else { Route::Contact };
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("authorization", authorization.as_str())];
    if !case.headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type", "application/json"));
    }
    headers.extend(case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let separator = if case.query.is_empty() { "" } else { "?" };
    let url = format!("{base}{}{separator}{}", route.path(), case.query);
    http::send(route.method(), &url, &headers, case.row.clone()).await
}

async fn difference_of_sent(
    response: &Response,
    loops: &MockDestination,
    id: &str,
    body: &str,
    case: &Case,
) -> Option<String> {
    if response.status != 200 && response.status != 202 {
        return Some(format!("was answered {} {}", response.status, response.text()));
    }
    let received = eventually(&format!("{} at Loops", case.name), async || {
        loops.received().into_iter().map(|request| request.text()).find(|body| body.contains(id))
    })
    .await;
    let reported = adjusted_fields(response);
    let adjusted_wrongly = case.adjusted.as_ref().is_some_and(|adjusted| *adjusted != reported);
    if received != body || adjusted_wrongly {
        return Some(format!("Loops got {received}, and the response reports {reported:?}"));
    }
    delivery_id(response).is_empty().then(|| "no delivery id".to_owned())
}

fn difference_of_rejected(response: &Response, case: &Case) -> Option<String> {
    let Expected::Rejected { status, code, field, message_parts } = &case.expected else { return None };
    let body = response.json();
    let message = body["message"].as_str().unwrap_or_default();
    let is_expected = response.status == *status
        && body["success"] == false
        && body["code"] == code.as_str()
        && body.get("field").and_then(|field| field.as_str()) == field.as_deref()
        && response.headers.get("content-type").is_some_and(|kind| kind == "application/json")
        && !delivery_id(response).is_empty()
        && (1..=MAX_MESSAGE_CHARS).contains(&message.chars().count())
        && message_parts.iter().all(|part| message.contains(part));
    (!is_expected).then(|| format!("was answered {} {}", response.status, response.text()))
}

/// Returns the adjusted fields in a response: in the body of a 202, otherwise in a header. The names in the table need
/// no percent-decoding.
fn adjusted_fields(response: &Response) -> Vec<String> {
    if response.status == 202 {
        let body = response.json();
        let names = body.get("adjusted").and_then(|names| names.as_array()).cloned().unwrap_or_default();
        return names.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect();
    }
    let header = response.headers.get("x-relay-adjusted").map(String::as_str).unwrap_or_default();
    header.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn delivery_id(response: &Response) -> &str {
    response.headers.get("x-relay-delivery-id").map(String::as_str).unwrap_or_default()
}

/// Waits until the relay makes a number of a text for a property that is one: it reads the list beside its rows.
async fn wait_for_properties(base: &str, token: &str, loops: &MockDestination) {
    let route = Route::Contact;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    eventually("the list of properties in use", async || {
        let row = r#"{"email":"probe@x.co","seats":"7"}"#;
        http::send(route.method(), &format!("{base}{}", route.path()), &headers, row).await;
        loops.received().iter().any(|request| request.text() == r#"{"email":"probe@x.co","seats":7}"#).then_some(())
    })
    .await;
}
