//! What is done with Loops' answers to a row that was stored.

use std::time::{Duration, Instant};

use relay_testkit::http::{Response, send};
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply, UnusedPort};
use relay_testkit::relay_process::RELAY_TOKEN;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::clay::{becomes, date_in, passing};
use crate::Relay;

/// The settings of a relay that calls this Loops with this key, and has no Clay.
pub(crate) fn loops<'a>(api: &'a str, key: &'a str) -> [(&'static str, &'a str); 4] {
    [("LOOPS_API_URL", api), ("LOOPS_API_KEY", key), ("LOOPS_RATE_PER_SECOND", "1000"), ("CLAY_WEBHOOK_URL", "")]
}

/// What a row becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Contact,
    Event,
}

impl What {
    /// Where Loops takes it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Contact => "/api/v1/contacts/update",
            Self::Event => "/api/v1/events/send",
        }
    }
}

/// Sends a row as Clay does, with more headers.
pub(crate) async fn row(relay: &Relay, what: What, body: Value, more: &[(&str, &str)]) -> Response {
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(more);
    let method = match what {
        What::Contact => "PUT",
        What::Event => "POST",
    };
    send(method, &format!("{}{}", relay.base(), what.path()), &headers, body.to_string()).await
}

/// A row of that number: a contact of its own.
pub(crate) fn numbered(what: What, number: usize) -> Value {
    let email = format!("n{number}@example.com");
    match what {
        What::Contact => json!({"email": email}),
        What::Event => json!({"email": email, "eventName": "signup"}),
    }
}

/// The keys that a far end got, one of each.
pub(crate) fn keys(got: &[ReceivedRequest]) -> Vec<Option<&String>> {
    let mut keys: Vec<_> = got.iter().map(|got| got.headers.get("idempotency-key")).collect();
    keys.dedup();
    keys
}

async fn stored(relay: &Relay, what: What, number: usize) {
    let answer = row(relay, what, numbered(what, number), &[("prefer", "respond-async")]).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (202, Some("queued")));
}

#[tokio::test]
async fn any_2xx_and_a_409_on_an_event_is_delivered_at_the_first_attempt() {
    let far = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let cases = [
        (What::Contact, Reply::json(200, r#"{"success":true,"id":"c1"}"#)),
        (What::Contact, Reply::status(204)),
        (What::Contact, Reply::TruncatedBody(200)),
        (What::Event, Reply::status(201)),
        (What::Event, Reply::html(202)),
        (What::Event, Reply::json(409, r#"{"success":false,"message":"Event already processed"}"#)),
    ];
    for (place, (what, reply)) in cases.clone().into_iter().enumerate() {
        far.enqueue_replies([reply]);
        stored(&relay, what, place).await;
        becomes(&relay, place, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
        assert_eq!(far.received()[place].path, what.path());
    }
    assert_eq!(far.received().len(), cases.len());
}

#[tokio::test]
async fn a_refusal_of_loops_is_a_dead_letter_with_its_reason() {
    let far = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let contacts = [400, 402, 403, 404, 405, 409, 410, 413, 415, 418, 422, 451, 499];
    let events = [400, 403, 404, 410, 413, 422];
    let contacts = contacts.map(|status| (What::Contact, status));
    let cases: Vec<_> = contacts.into_iter().chain(events.map(|status| (What::Event, status))).collect();
    for (place, (what, status)) in cases.iter().copied().enumerate() {
        far.enqueue_replies([Reply::json(status, r#"{"success":false,"message":"no"}"#)]);
        stored(&relay, what, place).await;
        let dead = json!({"state": "dead", "attempts": 1, "reason": "loops_rejected", "status": status});
        becomes(&relay, place, dead).await;
    }
    assert_eq!(far.received().len(), cases.len());
}

#[tokio::test]
async fn what_should_pass_at_loops_is_tried_again_with_the_same_key_until_it_is_taken() {
    let mut cases = JoinSet::new();
    for (reply, reason, status) in passing() {
        cases.spawn(async move {
            let far = MockDestination::start(reply.clone()).await;
            let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
            stored(&relay, What::Event, 0).await;
            becomes(&relay, 0, json!({"state": "waiting", "reason": reason, "status": status})).await;
            far.set_default_reply(Reply::status(200));
            becomes(&relay, 0, json!({"state": "delivered", "reason": null, "status": null})).await;
            let got = far.received();
            assert!(got.len() >= 2, "{reply:?}");
            assert!(matches!(keys(&got)[..], [Some(_)]), "{reply:?}: {:?}", keys(&got));
            assert!(got.iter().all(|call| call.body == got[0].body), "{reply:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_callers_own_key_goes_with_every_attempt() {
    let far = MockDestination::start(Reply::status(200)).await;
    far.enqueue_replies([Reply::status(500), Reply::status(503)]);
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let headers = [("prefer", "respond-async"), ("idempotency-key", "row-17")];
    assert_eq!(row(&relay, What::Event, numbered(What::Event, 0), &headers).await.status, 202);
    becomes(&relay, 0, json!({"state": "delivered", "attempts": 3})).await;
    assert_eq!(keys(&far.received()), [Some(&"row-17".to_owned())]);
}

#[tokio::test]
async fn a_loops_that_is_down_gets_its_rows_when_it_is_up() {
    let down = UnusedPort::new();
    let relay = Relay::start(&loops(&down.url("/api"), "key")).await;
    stored(&relay, What::Contact, 0).await;
    becomes(&relay, 0, json!({"state": "waiting", "reason": "unreachable", "status": null})).await;
    let far = down.listen(Reply::status(200));
    becomes(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(far.received().len(), 1);
}

#[tokio::test]
async fn loops_is_left_alone_for_as_long_as_it_asks_for() {
    let mut cases = JoinSet::new();
    for status in [408, 425, 429, 307, 503] {
        cases.spawn(async move {
            let far = MockDestination::start(Reply::status(200)).await;
            let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
            for (place, as_date) in [false, true].into_iter().enumerate() {
                let (asked, earliest) = if as_date {
                    date_in(Duration::from_secs(3))
                } else {
                    ("2".to_owned(), Instant::now() + Duration::from_millis(1995))
                };
                far.enqueue_replies([Reply::status(status).with_header("Retry-After", &asked)]);
                stored(&relay, What::Contact, place).await;
                becomes(&relay, place, json!({"state": "delivered", "attempts": 2})).await;
                assert!(far.received()[2 * place + 1].received_at >= earliest, "{status}, {asked}");
            }
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_redirect_of_loops_is_never_followed() {
    let elsewhere = MockDestination::start(Reply::status(200)).await;
    let far = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    for (place, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        far.enqueue_replies([Reply::status(status).with_header("Location", &elsewhere.url("/elsewhere"))]);
        stored(&relay, What::Event, place).await;
        becomes(&relay, place, json!({"state": "delivered", "attempts": 2})).await;
    }
    assert!(elsewhere.received().is_empty());
    assert!(far.received().iter().all(|got| got.method == "POST" && got.path == What::Event.path()));
}

#[tokio::test]
async fn a_refused_loops_key_holds_the_rows_until_a_restart_with_another() {
    let far = MockDestination::start(Reply::json(401, r#"{"error":"Invalid API key"}"#)).await;
    let api = far.url("/api");
    let relay = Relay::start(&loops(&api, "wrong")).await;
    stored(&relay, What::Event, 0).await;
    let held = json!({"state": "waiting", "attempts": 1, "reason": "loops_key_rejected", "status": 401});
    becomes(&relay, 0, held).await;
    // Once, and once more after the secret was read again.
    assert_eq!(far.received().len(), 2);
    // What comes later for the same contact waits behind it.
    let later = json!({"email": "n0@example.com", "plan": "pro"});
    assert_eq!(row(&relay, What::Contact, later, &[]).await.status, 202);

    let (folder, _) = relay.stop().await;
    far.set_default_reply(Reply::status(200));
    let relay = Relay::start_in(folder, &loops(&api, "right")).await;
    for place in [0, 1] {
        becomes(&relay, place, json!({"state": "delivered", "reason": null})).await;
    }
    let got = far.received();
    let tokens: Vec<&str> = got.iter().map(|got| got.headers["authorization"].as_str()).collect();
    assert_eq!(tokens, ["Bearer wrong", "Bearer wrong", "Bearer right", "Bearer right"]);
    assert_eq!(keys(&got[..3]).len(), 1);
    assert_eq!(got[3].path, What::Contact.path());
}

#[tokio::test]
async fn stored_rows_wait_for_a_loops_key() {
    let far = MockDestination::start(Reply::status(503)).await;
    let api = far.url("/api");
    let relay = Relay::start(&loops(&api, "key")).await;
    stored(&relay, What::Contact, 0).await;
    becomes(&relay, 0, json!({"state": "waiting", "reason": "destination_failed"})).await;
    let (folder, _) = relay.stop().await;
    far.set_default_reply(Reply::status(200));
    let called = far.received().len();

    let relay = Relay::start_in(folder, &loops(&api, "")).await;
    becomes(&relay, 0, json!({"state": "waiting", "reason": "not_configured", "status": null})).await;
    assert_eq!(far.received().len(), called);
    let (folder, _) = relay.stop().await;

    let relay = Relay::start_in(folder, &loops(&api, "key")).await;
    becomes(&relay, 0, json!({"state": "delivered", "reason": null})).await;
    assert_eq!(far.received().len(), called + 1);
}

#[tokio::test]
async fn a_connection_to_loops_that_died_in_the_pool_is_replaced_at_once() {
    let far = MockDestination::start(Reply::status(200)).await;
    far.enqueue_replies([Reply::RespondThenReset]);
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    for place in [0, 1] {
        stored(&relay, What::Event, place).await;
        becomes(&relay, place, json!({"state": "delivered", "attempts": 1})).await;
    }
    assert_eq!(far.received().len(), 2);
}
