//! `POST /webhooks/loops`: the responses, and the outcomes of the event.

mod clay;
mod signed;

use crate::Relay;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::webhook::{self, post};
use serde_json::{Value, json};

/// The largest request that is read.
pub(crate) const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Maximum size of a row at Clay.
const MAX_CLAY_ROW_BYTES: usize = 100_000;

/// Starts a Clay webhook that accepts everything.
pub(crate) async fn start_clay() -> MockDestination {
    MockDestination::start(Reply::json(200, r#"{"status":"ok"}"#)).await
}

/// A relay to that webhook, with these settings besides.
pub(crate) async fn start_relay(clay: &MockDestination, overrides: &[(&str, &str)]) -> Relay {
    let url = clay.url("/v3/sources/webhook/pull-in-data");
    let mut settings = vec![("CLAY_WEBHOOK_URL", url.as_str()), ("CLAY_RATE_PER_SECOND", "1000")];
    settings.extend(overrides);
    Relay::start(&settings).await
}

/// Checks that a webhook was accepted, with exactly this status.
#[track_caller]
pub(crate) fn assert_accepted(response: &Response, status: &str) {
    assert_eq!((response.status, response.json()), (200, json!({"success": true, "status": status})));
}

/// The bodies that Clay got, once there are that many.
pub(crate) async fn wait_for_rows(clay: &MockDestination, count: usize) -> Vec<String> {
    let requests = eventually(&format!("{count} rows at Clay"), async || {
        let requests = clay.received();
        (requests.len() >= count).then_some(requests)
    })
    .await;
    requests.iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect()
}

/// Returns the stored deliveries as pairs of state and reason, once none waits.
async fn wait_until_settled(relay: &Relay) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    eventually("an empty queue", async || {
        let deliveries = relay.deliveries().await;
        let states: Vec<_> = deliveries
            .iter()
            .map(|delivery| (text(&delivery["state"]).unwrap_or_default(), text(&delivery["reason"])))
            .collect();
        states.iter().all(|(state, _)| state != "waiting").then_some(states)
    })
    .await
}

fn delivered() -> (String, Option<String>) {
    ("delivered".to_owned(), None)
}

fn dead(reason: &str) -> (String, Option<String>) {
    ("dead".to_owned(), Some(reason.to_owned()))
}

fn event(name: &str) -> Vec<u8> {
    json!({"eventName": name, "contactIdentity": {"email": "ada@example.com"}}).to_string().into_bytes()
}

/// An event of exactly that many bytes.
pub(crate) fn event_of_size(name: &str, source: &str, bytes: usize) -> Vec<u8> {
    let with = |padding: &str| json!({"eventName": name, "contact": {"source": source, "note": padding}}).to_string();
    let padding_len = bytes - with("").len();
    // A text that repeats is found again wherever a store may have cut it.
    with(&"kept as it came; ".repeat(padding_len / 17 + 1)[..padding_len]).into_bytes()
}

#[tokio::test]
async fn selected_event_is_stored_and_becomes_one_row() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[]).await;
    let body = webhook::contact_created("ada@example.com");
    assert_accepted(&post(relay.base(), "msg_1", &body).await, "queued");
    assert_eq!(wait_for_rows(&clay, 1).await, [String::from_utf8(body).unwrap()]);
    let delivery = relay.wait_for_state("delivered").await;
    assert_eq!(
        (&delivery["direction"], &delivery["attempts"], &delivery["reason"]),
        (&json!("loops-to-clay"), &json!(1), &Value::Null)
    );
}

#[tokio::test]
async fn events_are_selected_by_name_prefix_or_star() {
    for (relayed_events, queued, ignored) in [
        (None, &["contact.created"][..], &["contact.deleted", "contact.renamed", "Contact.created", "contact"][..]),
        (
            Some("email.*"),
            &["email.opened", "email.a.b"],
            &["email", "emails.x", "campaign.email.sent", "contact.created"],
        ),
        (Some("*"), &["contact.created", "contact.renamed", "x"], &[]),
        (Some("contact.renamed"), &["contact.renamed"], &["contact.created"]),
        (
            Some(" contact.deleted , contact.mailingList.* "),
            &["contact.deleted", "contact.mailingList.subscribed"],
            &["contact.created"],
        ),
        (Some(""), &[], &["contact.created", "contact.renamed"]),
    ] {
        let clay = start_clay().await;
        let setting = relayed_events.map(|relayed_events| ("RELAYED_EVENTS", relayed_events));
        let relay = start_relay(&clay, setting.as_slice()).await;
        for name in ignored {
            assert_accepted(&post(relay.base(), &format!("ignored {name}"), &event(name)).await, "ignored");
        }
        assert!(relay.deliveries().await.is_empty(), "{relayed_events:?}: what is ignored is not stored");
        for name in queued {
            assert_accepted(&post(relay.base(), &format!("queued {name}"), &event(name)).await, "queued");
        }
        assert_eq!(wait_until_settled(&relay).await, vec![delivered(); queued.len()], "{relayed_events:?}");
    }
}

#[tokio::test]
async fn test_event_gets_status_test_and_is_not_forwarded() {
    for relayed_events in ["*", "testing.testEvent", "contact.created", ""] {
        let clay = start_clay().await;
        let relay = start_relay(&clay, &[("RELAYED_EVENTS", relayed_events)]).await;
        assert_accepted(&post(relay.base(), "msg_1", &event("testing.testEvent")).await, "test");
        assert!(relay.deliveries().await.is_empty() && clay.received().is_empty(), "{relayed_events}");
    }
}

#[tokio::test]
async fn contact_created_by_the_relay_is_not_sent_back() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[("CONTACT_SOURCE", "Clay"), ("RELAYED_EVENTS", "*")]).await;
    let event_from_source =
        |name: &str, source: Value| json!({"eventName": name, "contact": {"source": source}}).to_string();
    let echo = event_from_source("contact.created", json!("Clay"));
    assert_accepted(&post(relay.base(), "msg_1", echo.as_bytes()).await, "ignored");
    assert!(relay.deliveries().await.is_empty());
    let other_events = [
        event_from_source("contact.created", json!("API")),
        event_from_source("contact.created", json!("clay")),
        event_from_source("contact.created", Value::Null),
        event_from_source("contact.renamed", json!("Clay")),
        json!({"eventName": "contact.created", "source": "Clay"}).to_string(),
    ];
    for (number, other) in other_events.iter().enumerate() {
        assert_accepted(&post(relay.base(), &format!("other_{number}"), other.as_bytes()).await, "queued");
    }
    assert_eq!(wait_for_rows(&clay, other_events.len()).await.len(), other_events.len());
}

#[tokio::test]
async fn no_event_is_an_echo_without_a_contact_source() {
    for source in [None, Some("")] {
        let clay = start_clay().await;
        let setting = source.map(|source| ("CONTACT_SOURCE", source));
        let relay = start_relay(&clay, setting.as_slice()).await;
        let body = json!({"eventName": "contact.created", "contact": {"source": ""}}).to_string();
        assert_accepted(&post(relay.base(), "msg_1", body.as_bytes()).await, "queued");
    }
}

#[tokio::test]
async fn repeated_webhook_is_one_row() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[]).await;
    let body = webhook::contact_created("ada@example.com");
    let repeats = (0..8).map(|_| {
        let (base, body) = (relay.base().to_owned(), body.clone());
        tokio::spawn(async move { post(&base, "msg_1", &body).await })
    });
    for repeat in repeats.collect::<Vec<_>>() {
        assert_accepted(&repeat.await.unwrap(), "queued");
    }
    relay.wait_for_state("delivered").await;
    assert_accepted(&webhook::post_at(relay.base(), "msg_1", webhook::now() - 60, &body).await, "queued");

    let url = clay.url("/v3/sources/webhook/pull-in-data");
    let relay = Relay::start_in(relay.kill().await, &[("CLAY_WEBHOOK_URL", &url)]).await;
    assert_accepted(&post(relay.base(), "msg_1", &body).await, "queued");
    assert_accepted(&post(relay.base(), "msg_2", &body).await, "queued");
    assert_eq!(wait_until_settled(&relay).await, [delivered(), delivered()]);
    assert_eq!(clay.received().len(), 2, "one row for each id");
}

#[tokio::test]
async fn conflicting_body_under_same_id_is_dead_lettered() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[]).await;
    let (first, second) = (webhook::contact_created("ada@example.com"), webhook::contact_created("bob@example.com"));
    assert_accepted(&post(relay.base(), "msg_1", &first).await, "queued");
    relay.wait_for_state("delivered").await;
    for _ in 0..2 {
        let response = post(relay.base(), "msg_1", &second).await;
        assert_eq!((response.status, &response.json()["success"]), (200, &json!(true)), "{}", response.text());
    }
    assert_accepted(&post(relay.base(), "msg_1", &first).await, "queued");
    assert_eq!(wait_until_settled(&relay).await, [delivered(), dead("id_conflict")]);
    assert_eq!(wait_for_rows(&clay, 1).await, [String::from_utf8(first).unwrap()]);
}

#[tokio::test]
async fn body_over_256_kib_is_413_and_exactly_256_kib_is_read() {
    let relay = start_relay(&start_clay().await, &[]).await;
    let largest = event_of_size("contact.deleted", "", MAX_REQUEST_BYTES);
    assert_accepted(&post(relay.base(), "msg_1", &largest).await, "ignored");
    let larger = event_of_size("contact.deleted", "", MAX_REQUEST_BYTES + 1);
    post(relay.base(), "msg_2", &larger).await.assert_error_response(413, "too_large", None);
    let much_larger = vec![b'['; 4 * MAX_REQUEST_BYTES];
    post(relay.base(), "msg_3", &much_larger).await.assert_error_response(413, "too_large", None);
}

#[tokio::test]
async fn event_too_large_for_clay_is_rejected_and_dead_lettered() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[]).await;
    let largest = event_of_size("contact.created", "API", MAX_CLAY_ROW_BYTES);
    assert_accepted(&post(relay.base(), "msg_1", &largest).await, "queued");
    assert_eq!(wait_for_rows(&clay, 1).await, [String::from_utf8(largest).unwrap()]);
    relay.wait_for_state("delivered").await;

    for bytes in [MAX_CLAY_ROW_BYTES + 1, MAX_REQUEST_BYTES] {
        let larger = event_of_size("contact.created", "API", bytes);
        for _ in 0..2 {
            assert_accepted(&post(relay.base(), &format!("msg_{bytes}"), &larger).await, "rejected");
        }
    }
    assert_eq!(wait_until_settled(&relay).await, [delivered(), dead("too_large"), dead("too_large")]);
    assert_eq!(clay.received().len(), 1);
}

#[tokio::test]
async fn unforwarded_event_may_exceed_the_size_limit_of_clay() {
    let relay = start_relay(&start_clay().await, &[("CONTACT_SOURCE", "Clay")]).await;
    for (name, source, status) in [
        ("contact.deleted", "API", "ignored"),
        ("testing.testEvent", "API", "test"),
        ("contact.created", "Clay", "ignored"),
    ] {
        let body = event_of_size(name, source, MAX_CLAY_ROW_BYTES + 1);
        assert_accepted(&post(relay.base(), &format!("msg {name} {source}"), &body).await, status);
    }
    assert!(relay.deliveries().await.is_empty());
}

#[tokio::test]
async fn signed_body_without_an_event_name_is_400() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[("RELAYED_EVENTS", "*")]).await;
    for body in [
        &b""[..],
        b"contact.created",
        b"null",
        b"[{\"eventName\":\"contact.created\"}]",
        b"\"contact.created\"",
        b"{}",
        b"{\"eventName\":\"\"}",
        b"{\"eventName\":7}",
        b"{\"eventName\":null}",
        b"{\"eventName\":{}}",
        b"{\"eventname\":\"contact.created\"}",
        b"{\"eventName\":\"contact.created\"",
        b"{\"eventName\":\"contact.created\"}{}",
        b"{'eventName':'contact.created'}",
        b"{\"eventName\":\"contact.created\",\"name\":\"\xff\"}",
    ] {
        let response = post(relay.base(), "msg_1", body).await;
        let field = response.json()["field"].as_str().map(str::to_owned);
        assert!(field.as_deref().is_none_or(|field| field == "eventName"), "{}", response.text());
        response.assert_error_response(400, "invalid_body", field.as_deref());
    }
    assert!(relay.deliveries().await.is_empty() && clay.received().is_empty());
}
