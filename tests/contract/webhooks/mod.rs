//! `POST /webhooks/loops`: what is answered, and what becomes of the event.

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
pub(crate) const REQUEST_BYTES: usize = 256 * 1024;
/// The largest row that Clay takes.
const CLAY_BYTES: usize = 100_000;

/// A Clay webhook that takes everything.
pub(crate) async fn clay() -> MockDestination {
    MockDestination::start(Reply::json(200, r#"{"status":"ok"}"#)).await
}

/// A relay to that webhook, with these settings besides.
pub(crate) async fn relay_to(clay: &MockDestination, given: &[(&str, &str)]) -> Relay {
    let url = clay.url("/v3/sources/webhook/pull-in-data");
    let mut settings = vec![("CLAY_WEBHOOK_URL", url.as_str()), ("CLAY_RATE_PER_SECOND", "1000")];
    settings.extend(given);
    Relay::start(&settings).await
}

/// Checks that a webhook was taken, with that status and nothing else.
#[track_caller]
pub(crate) fn assert_taken(answer: &Response, status: &str) {
    assert_eq!((answer.status, answer.json()), (200, json!({"success": true, "status": status})));
}

/// The bodies that Clay got, once there are that many.
pub(crate) async fn rows(clay: &MockDestination, count: usize) -> Vec<String> {
    let got = eventually(&format!("{count} rows at Clay"), async || {
        let got = clay.received();
        (got.len() >= count).then_some(got)
    })
    .await;
    got.iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect()
}

/// What is stored, as pairs of state and reason, once nothing waits.
async fn settled(relay: &Relay) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    eventually("an empty queue", async || {
        let deliveries = relay.deliveries().await;
        let states: Vec<_> =
            deliveries.iter().map(|one| (text(&one["state"]).unwrap_or_default(), text(&one["reason"]))).collect();
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
pub(crate) fn event_of(name: &str, source: &str, bytes: usize) -> Vec<u8> {
    let with = |note: &str| json!({"eventName": name, "contact": {"source": source, "note": note}}).to_string();
    let missing = bytes - with("").len();
    // A text that repeats is found again wherever a store may have cut it.
    with(&"kept as it came; ".repeat(missing / 17 + 1)[..missing]).into_bytes()
}

#[tokio::test]
async fn a_selected_event_is_stored_and_becomes_one_row() {
    let clay = clay().await;
    let relay = relay_to(&clay, &[]).await;
    let body = webhook::contact_created("ada@example.com");
    assert_taken(&post(relay.base(), "msg_1", &body).await, "queued");
    assert_eq!(rows(&clay, 1).await, [String::from_utf8(body).unwrap()]);
    let delivery = relay.wait_for_state("delivered").await;
    assert_eq!(
        (&delivery["direction"], &delivery["attempts"], &delivery["reason"]),
        (&json!("loops-to-clay"), &json!(1), &Value::Null)
    );
}

#[tokio::test]
async fn events_are_selected_by_name_prefix_or_star_and_by_default_only_contact_created() {
    for (relayed, queued, ignored) in [
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
        let clay = clay().await;
        let setting = relayed.map(|relayed| ("RELAYED_EVENTS", relayed));
        let relay = relay_to(&clay, setting.as_slice()).await;
        for name in ignored {
            assert_taken(&post(relay.base(), &format!("ignored {name}"), &event(name)).await, "ignored");
        }
        assert!(relay.deliveries().await.is_empty(), "{relayed:?}: what is ignored is not stored");
        for name in queued {
            assert_taken(&post(relay.base(), &format!("queued {name}"), &event(name)).await, "queued");
        }
        assert_eq!(settled(&relay).await, vec![delivered(); queued.len()], "{relayed:?}");
    }
}

#[tokio::test]
async fn the_test_event_is_answered_test_and_not_forwarded_even_where_it_is_selected() {
    for relayed in ["*", "testing.testEvent", "contact.created", ""] {
        let clay = clay().await;
        let relay = relay_to(&clay, &[("RELAYED_EVENTS", relayed)]).await;
        assert_taken(&post(relay.base(), "msg_1", &event("testing.testEvent")).await, "test");
        assert!(relay.deliveries().await.is_empty() && clay.received().is_empty(), "{relayed}");
    }
}

#[tokio::test]
async fn a_contact_that_the_relay_itself_created_is_not_sent_back() {
    let clay = clay().await;
    let relay = relay_to(&clay, &[("CONTACT_SOURCE", "Clay"), ("RELAYED_EVENTS", "*")]).await;
    let of_source = |name: &str, source: Value| json!({"eventName": name, "contact": {"source": source}}).to_string();
    let echo = of_source("contact.created", json!("Clay"));
    assert_taken(&post(relay.base(), "msg_1", echo.as_bytes()).await, "ignored");
    assert!(relay.deliveries().await.is_empty());
    let others = [
        of_source("contact.created", json!("API")),
        of_source("contact.created", json!("clay")),
        of_source("contact.created", Value::Null),
        of_source("contact.renamed", json!("Clay")),
        json!({"eventName": "contact.created", "source": "Clay"}).to_string(),
    ];
    for (number, other) in others.iter().enumerate() {
        assert_taken(&post(relay.base(), &format!("other_{number}"), other.as_bytes()).await, "queued");
    }
    assert_eq!(rows(&clay, others.len()).await.len(), others.len());
}

#[tokio::test]
async fn without_a_contact_source_nothing_is_an_echo() {
    for source in [None, Some("")] {
        let clay = clay().await;
        let setting = source.map(|source| ("CONTACT_SOURCE", source));
        let relay = relay_to(&clay, setting.as_slice()).await;
        let body = json!({"eventName": "contact.created", "contact": {"source": ""}}).to_string();
        assert_taken(&post(relay.base(), "msg_1", body.as_bytes()).await, "queued");
    }
}

#[tokio::test]
async fn a_repeat_of_a_webhook_is_still_one_row() {
    let clay = clay().await;
    let relay = relay_to(&clay, &[]).await;
    let body = webhook::contact_created("ada@example.com");
    let repeats = (0..8).map(|_| {
        let (base, body) = (relay.base().to_owned(), body.clone());
        tokio::spawn(async move { post(&base, "msg_1", &body).await })
    });
    for repeat in repeats.collect::<Vec<_>>() {
        assert_taken(&repeat.await.unwrap(), "queued");
    }
    relay.wait_for_state("delivered").await;
    assert_taken(&webhook::post_at(relay.base(), "msg_1", webhook::now() - 60, &body).await, "queued");

    let url = clay.url("/v3/sources/webhook/pull-in-data");
    let relay = Relay::start_in(relay.kill().await, &[("CLAY_WEBHOOK_URL", &url)]).await;
    assert_taken(&post(relay.base(), "msg_1", &body).await, "queued");
    assert_taken(&post(relay.base(), "msg_2", &body).await, "queued");
    assert_eq!(settled(&relay).await, [delivered(), delivered()]);
    assert_eq!(clay.received().len(), 2, "one row for each id");
}

#[tokio::test]
async fn an_id_that_comes_with_another_body_is_kept_as_an_id_conflict_and_makes_no_second_row() {
    let clay = clay().await;
    let relay = relay_to(&clay, &[]).await;
    let (first, second) = (webhook::contact_created("ada@example.com"), webhook::contact_created("bob@example.com"));
    assert_taken(&post(relay.base(), "msg_1", &first).await, "queued");
    relay.wait_for_state("delivered").await;
    for _ in 0..2 {
        let answer = post(relay.base(), "msg_1", &second).await;
        assert_eq!((answer.status, &answer.json()["success"]), (200, &json!(true)), "{}", answer.text());
    }
    assert_taken(&post(relay.base(), "msg_1", &first).await, "queued");
    assert_eq!(settled(&relay).await, [delivered(), dead("id_conflict")]);
    assert_eq!(rows(&clay, 1).await, [String::from_utf8(first).unwrap()]);
}

#[tokio::test]
async fn more_than_256_kib_are_413_and_exactly_256_are_read() {
    let relay = relay_to(&clay().await, &[]).await;
    let largest = event_of("contact.deleted", "", REQUEST_BYTES);
    assert_taken(&post(relay.base(), "msg_1", &largest).await, "ignored");
    let larger = event_of("contact.deleted", "", REQUEST_BYTES + 1);
    post(relay.base(), "msg_2", &larger).await.assert_error_response(413, "too_large", None);
    let much_larger = vec![b'['; 4 * REQUEST_BYTES];
    post(relay.base(), "msg_3", &much_larger).await.assert_error_response(413, "too_large", None);
}

#[tokio::test]
async fn what_is_larger_than_clay_takes_is_answered_rejected_and_kept_as_a_dead_letter() {
    let clay = clay().await;
    let relay = relay_to(&clay, &[]).await;
    let largest = event_of("contact.created", "API", CLAY_BYTES);
    assert_taken(&post(relay.base(), "msg_1", &largest).await, "queued");
    assert_eq!(rows(&clay, 1).await, [String::from_utf8(largest).unwrap()]);
    relay.wait_for_state("delivered").await;

    for bytes in [CLAY_BYTES + 1, REQUEST_BYTES] {
        let larger = event_of("contact.created", "API", bytes);
        for _ in 0..2 {
            assert_taken(&post(relay.base(), &format!("msg_{bytes}"), &larger).await, "rejected");
        }
    }
    assert_eq!(settled(&relay).await, [delivered(), dead("too_large"), dead("too_large")]);
    assert_eq!(clay.received().len(), 1);
}

#[tokio::test]
async fn what_goes_no_further_may_be_larger_than_clay_takes() {
    let relay = relay_to(&clay().await, &[("CONTACT_SOURCE", "Clay")]).await;
    for (name, source, status) in [
        ("contact.deleted", "API", "ignored"),
        ("testing.testEvent", "API", "test"),
        ("contact.created", "Clay", "ignored"),
    ] {
        let body = event_of(name, source, CLAY_BYTES + 1);
        assert_taken(&post(relay.base(), &format!("msg {name} {source}"), &body).await, status);
    }
    assert!(relay.deliveries().await.is_empty());
}

#[tokio::test]
async fn what_is_no_object_with_a_text_event_name_is_400_although_it_is_signed() {
    let clay = clay().await;
    let relay = relay_to(&clay, &[("RELAYED_EVENTS", "*")]).await;
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
        let answer = post(relay.base(), "msg_1", body).await;
        let field = answer.json()["field"].as_str().map(str::to_owned);
        assert!(field.as_deref().is_none_or(|field| field == "eventName"), "{}", answer.text());
        answer.assert_error_response(400, "invalid_body", field.as_deref());
    }
    assert!(relay.deliveries().await.is_empty() && clay.received().is_empty());
}
