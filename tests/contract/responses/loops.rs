//! Handling of Loops' responses to a queued row.

use std::time::{Duration, Instant};

use relay_testkit::http::{Response, send};
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply, UnusedPort};
use relay_testkit::relay_process::RELAY_TOKEN;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::clay::{http_date_in, transient_failures, wait_for_delivery};
use crate::Relay;

/// The settings of a relay that calls this Loops with this key, and has no Clay.
pub(crate) fn loops_settings<'a>(api: &'a str, key: &'a str) -> [(&'static str, &'a str); 4] {
    [("LOOPS_API_URL", api), ("LOOPS_API_KEY", key), ("LOOPS_RATE_PER_SECOND", "1000"), ("CLAY_WEBHOOK_URL", "")]
}

/// What a row becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowKind {
    Contact,
    Event,
}

impl RowKind {
    /// Returns the path at Loops.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Contact => "/api/v1/contacts/update",
            Self::Event => "/api/v1/events/send",
        }
    }
}

/// Sends a row as Clay does, with more headers.
pub(crate) async fn send_row(relay: &Relay, kind: RowKind, body: Value, extra_headers: &[(&str, &str)]) -> Response {
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(extra_headers);
    let method = match kind {
        RowKind::Contact => "PUT",
        RowKind::Event => "POST",
    };
    send(method, &format!("{}{}", relay.base(), kind.path()), &headers, body.to_string()).await
}

/// A row of that number: a contact of its own.
pub(crate) fn numbered_row(kind: RowKind, number: usize) -> Value {
    let email = format!("n{number}@example.com");
    match kind {
        RowKind::Contact => json!({"email": email}),
        RowKind::Event => json!({"email": email, "eventName": "signup"}),
    }
}

/// Returns the distinct idempotency keys of requests.
pub(crate) fn idempotency_keys(requests: &[ReceivedRequest]) -> Vec<Option<&String>> {
    let mut keys: Vec<_> = requests.iter().map(|request| request.headers.get("idempotency-key")).collect();
    keys.dedup();
    keys
}

async fn send_async(relay: &Relay, kind: RowKind, number: usize) {
    let response = send_row(relay, kind, numbered_row(kind, number), &[("prefer", "respond-async")]).await;
    assert_eq!((response.status, response.json()["status"].as_str()), (202, Some("queued")));
}

#[tokio::test]
async fn any_2xx_or_event_409_is_delivered_on_the_first_attempt() {
    let destination = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let cases = [
        (RowKind::Contact, Reply::json(200, r#"{"success":true,"id":"c1"}"#)),
        (RowKind::Contact, Reply::status(204)),
        (RowKind::Contact, Reply::TruncatedBody(200)),
        (RowKind::Event, Reply::status(201)),
        (RowKind::Event, Reply::html(202)),
        (RowKind::Event, Reply::json(409, r#"{"success":false,"message":"Event already processed"}"#)),
    ];
    for (index, (kind, reply)) in cases.clone().into_iter().enumerate() {
        destination.enqueue_replies([reply]);
        send_async(&relay, kind, index).await;
        wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
        assert_eq!(destination.received()[index].path, kind.path());
    }
    assert_eq!(destination.received().len(), cases.len());
}

#[tokio::test]
async fn queued_row_rejected_by_loops_is_dead_lettered() {
    let destination = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let contacts = [400, 402, 403, 404, 405, 409, 410, 413, 415, 418, 422, 451, 499];
    let events = [400, 403, 404, 410, 413, 422];
    let contacts = contacts.map(|status| (RowKind::Contact, status));
    let cases: Vec<_> = contacts.into_iter().chain(events.map(|status| (RowKind::Event, status))).collect();
    for (index, (kind, status)) in cases.iter().copied().enumerate() {
        destination.enqueue_replies([Reply::json(status, r#"{"success":false,"message":"no"}"#)]);
        send_async(&relay, kind, index).await;
        let dead = json!({"state": "dead", "attempts": 1, "reason": "loops_rejected", "status": status});
        wait_for_delivery(&relay, index, dead).await;
    }
    assert_eq!(destination.received().len(), cases.len());
}

#[tokio::test]
async fn transient_failure_is_retried_with_the_same_key() {
    let mut cases = JoinSet::new();
    for (reply, reason, status) in transient_failures() {
        cases.spawn(async move {
            let destination = MockDestination::start(reply.clone()).await;
            let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
            send_async(&relay, RowKind::Event, 0).await;
            wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": reason, "status": status})).await;
            destination.set_default_reply(Reply::status(200));
            wait_for_delivery(&relay, 0, json!({"state": "delivered", "reason": null, "status": null})).await;
            let requests = destination.received();
            assert!(requests.len() >= 2, "{reply:?}");
            assert!(
                matches!(idempotency_keys(&requests)[..], [Some(_)]),
                "{reply:?}: {:?}",
                idempotency_keys(&requests)
            );
            assert!(requests.iter().all(|call| call.body == requests[0].body), "{reply:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn key_of_the_caller_is_sent_with_every_attempt() {
    let destination = MockDestination::start(Reply::status(200)).await;
    destination.enqueue_replies([Reply::status(500), Reply::status(503)]);
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let headers = [("prefer", "respond-async"), ("idempotency-key", "row-17")];
    assert_eq!(send_row(&relay, RowKind::Event, numbered_row(RowKind::Event, 0), &headers).await.status, 202);
    wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 3})).await;
    assert_eq!(idempotency_keys(&destination.received()), [Some(&"row-17".to_owned())]);
}

#[tokio::test]
async fn queued_rows_are_delivered_after_loops_comes_up() {
    let unused_port = UnusedPort::new();
    let relay = Relay::start(&loops_settings(&unused_port.url("/api"), "key")).await;
    send_async(&relay, RowKind::Contact, 0).await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "unreachable", "status": null})).await;
    let destination = unused_port.listen(Reply::status(200));
    wait_for_delivery(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(destination.received().len(), 1);
}

#[tokio::test]
async fn retry_after_of_loops_is_honoured() {
    let mut cases = JoinSet::new();
    for status in [408, 425, 429, 307, 503] {
        cases.spawn(async move {
            let destination = MockDestination::start(Reply::status(200)).await;
            let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
            for (index, as_date) in [false, true].into_iter().enumerate() {
                let (retry_after, earliest) = if as_date {
                    http_date_in(Duration::from_secs(3))
                } else {
                    ("2".to_owned(), Instant::now() + Duration::from_millis(1995))
                };
                destination.enqueue_replies([Reply::status(status).with_header("Retry-After", &retry_after)]);
                send_async(&relay, RowKind::Contact, index).await;
                wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 2})).await;
                assert!(destination.received()[2 * index + 1].received_at >= earliest, "{status}, {retry_after}");
            }
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn redirect_of_loops_is_never_followed() {
    let redirect_target = MockDestination::start(Reply::status(200)).await;
    let destination = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    for (index, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        destination
            .enqueue_replies([Reply::status(status).with_header("Location", &redirect_target.url("/elsewhere"))]);
        send_async(&relay, RowKind::Event, index).await;
        wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 2})).await;
    }
    assert!(redirect_target.received().is_empty());
    assert!(
        destination.received().iter().all(|request| request.method == "POST" && request.path == RowKind::Event.path())
    );
}

#[tokio::test]
async fn rejected_loops_key_holds_rows_until_restart_with_new_one() {
    let destination = MockDestination::start(Reply::json(401, r#"{"error":"Invalid API key"}"#)).await;
    let api = destination.url("/api");
    let relay = Relay::start(&loops_settings(&api, "wrong")).await;
    send_async(&relay, RowKind::Event, 0).await;
    let held = json!({"state": "waiting", "attempts": 1, "reason": "loops_key_rejected", "status": 401});
    wait_for_delivery(&relay, 0, held).await;
    // Once, and once more after the secret was read again.
    assert_eq!(destination.received().len(), 2);
    // A later row of the same contact waits behind it.
    let later_update = json!({"email": "n0@example.com", "plan": "pro"});
    assert_eq!(send_row(&relay, RowKind::Contact, later_update, &[]).await.status, 202);

    let (folder, _) = relay.stop().await;
    destination.set_default_reply(Reply::status(200));
    let relay = Relay::start_in(folder, &loops_settings(&api, "right")).await;
    for index in [0, 1] {
        wait_for_delivery(&relay, index, json!({"state": "delivered", "reason": null})).await;
    }
    let requests = destination.received();
    let tokens: Vec<&str> = requests.iter().map(|request| request.headers["authorization"].as_str()).collect();
    assert_eq!(tokens, ["Bearer wrong", "Bearer wrong", "Bearer right", "Bearer right"]);
    assert_eq!(idempotency_keys(&requests[..3]).len(), 1);
    assert_eq!(requests[3].path, RowKind::Contact.path());
}

#[tokio::test]
async fn queued_rows_are_held_without_a_loops_key() {
    let destination = MockDestination::start(Reply::status(503)).await;
    let api = destination.url("/api");
    let relay = Relay::start(&loops_settings(&api, "key")).await;
    send_async(&relay, RowKind::Contact, 0).await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "destination_failed"})).await;
    let (folder, _) = relay.stop().await;
    destination.set_default_reply(Reply::status(200));
    let earlier_requests = destination.received().len();

    let relay = Relay::start_in(folder, &loops_settings(&api, "")).await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "not_configured", "status": null})).await;
    assert_eq!(destination.received().len(), earlier_requests);
    let (folder, _) = relay.stop().await;

    let relay = Relay::start_in(folder, &loops_settings(&api, "key")).await;
    wait_for_delivery(&relay, 0, json!({"state": "delivered", "reason": null})).await;
    assert_eq!(destination.received().len(), earlier_requests + 1);
}

#[tokio::test]
async fn dead_pooled_connection_to_loops_is_replaced_at_once() {
    let destination = MockDestination::start(Reply::status(200)).await;
    destination.enqueue_replies([Reply::RespondThenReset]);
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    for index in [0, 1] {
        send_async(&relay, RowKind::Event, index).await;
        wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 1})).await;
    }
    assert_eq!(destination.received().len(), 2);
}
