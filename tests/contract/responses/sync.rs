//! What is done with Loops' answers to a row whose caller waits.

use std::time::{Duration, Instant};

use crate::Relay;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply, UnusedPort};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::clay::{Passing, becomes, date_in, passing};
use super::loops::{What, keys, loops, numbered, row};

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;

/// The two quick tries that a caller waits for, the 202 after them, and the delivery after that.
async fn is_tried_twice_and_stored((reply, reason, status): Passing) {
    let far = MockDestination::start(reply.clone()).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let began = Instant::now();
    let answer = row(&relay, What::Event, numbered(What::Event, 0), &[]).await;
    let answered = Instant::now();
    assert_eq!((answer.status, answer.json()["status"].as_str()), (202, Some("queued")), "{reply:?}");
    assert!(answered - began < Duration::from_secs(12), "{reply:?}: {:?}", answered - began);
    let tries = far.received().iter().filter(|got| got.received_at < answered).count();
    becomes(&relay, 0, json!({"state": "waiting", "reason": reason, "status": status})).await;
    far.set_default_reply(Reply::json(200, TAKEN));
    let delivery = becomes(&relay, 0, json!({"state": "delivered", "reason": null})).await;
    assert_eq!(answer.json()["deliveryId"], delivery["id"], "{reply:?}");
    let got = far.received();
    assert!(matches!(keys(&got)[..], [Some(_)]), "{reply:?}: {:?}", keys(&got));
    // Where the first went into a pooled connection, it is repeated at once on a new one.
    let repeated = usize::from(matches!(reply, Reply::Reset));
    assert!((2..=2 + repeated).contains(&tries), "{reply:?}: {tries}");
}

#[tokio::test]
async fn what_should_pass_is_tried_twice_then_stored_and_delivered_with_the_same_key() {
    let mut cases = JoinSet::new();
    for passing in passing().into_iter().filter(|(_, reason, _)| *reason != "destination_throttled") {
        cases.spawn(is_tried_twice_and_stored(passing));
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_loops_that_is_full_is_tried_twice_then_the_row_is_stored() {
    is_tried_twice_and_stored((Reply::status(429), "destination_throttled", Some(429))).await;
}

#[tokio::test]
async fn the_second_of_the_two_tries_may_succeed() {
    let mut cases = JoinSet::new();
    let asking = [429, 503].map(|status| Reply::status(status).with_header("Retry-After", "1"));
    let silent = passing().into_iter().map(|(reply, ..)| reply);
    let silent = silent.filter(|reply| !matches!(reply, Reply::Respond(429, ..)));
    for reply in silent.chain(asking) {
        cases.spawn(async move {
            let far = MockDestination::start(Reply::json(200, TAKEN)).await;
            far.enqueue_replies([reply.clone()]);
            let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
            let answer = row(&relay, What::Event, numbered(What::Event, 0), &[]).await;
            assert_eq!((answer.status, answer.text()), (200, TAKEN.to_owned()), "{reply:?}");
            let got = far.received();
            assert_eq!((got.len(), keys(&got).len()), (2, 1), "{reply:?}");
            if let Reply::Respond(_, headers, _) = &reply
                && headers.iter().any(|(name, _)| *name == "Retry-After")
            {
                assert!(got[1].received_at - got[0].received_at >= Duration::from_secs(1), "{reply:?}");
            }
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn who_asks_for_longer_than_a_caller_waits_gets_the_row_from_the_queue_then() {
    let mut cases = JoinSet::new();
    for status in [408, 425, 429, 302, 503] {
        for as_date in [false, true] {
            cases.spawn(async move {
                let far = MockDestination::start(Reply::json(200, TAKEN)).await;
                let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
                let (asked, earliest) = if as_date {
                    date_in(Duration::from_secs(4))
                } else {
                    ("2".to_owned(), Instant::now() + Duration::from_secs(2))
                };
                far.enqueue_replies([Reply::status(status).with_header("Retry-After", &asked)]);
                let answer = row(&relay, What::Contact, numbered(What::Contact, 0), &[]).await;
                assert_eq!(answer.status, 202, "{status}, {asked}");
                becomes(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
                assert!(far.received()[1].received_at >= earliest, "{status}, {asked}");
            });
        }
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_loops_that_is_down_gets_the_row_when_it_is_up() {
    let down = UnusedPort::new();
    let relay = Relay::start(&loops(&down.url("/api"), "key")).await;
    assert_eq!(row(&relay, What::Contact, numbered(What::Contact, 0), &[]).await.status, 202);
    becomes(&relay, 0, json!({"state": "waiting", "reason": "unreachable"})).await;
    let far = down.listen(Reply::json(200, TAKEN));
    becomes(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(far.received().len(), 1);
}

#[tokio::test]
async fn a_2xx_is_passed_on() {
    let far = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let success = r#"{"success":true}"#;
    let cases = [
        (Reply::json(200, TAKEN), 200, TAKEN),
        (Reply::json(201, r#"{ "success" : true }"#), 201, r#"{ "success" : true }"#),
        (Reply::html(200), 200, success),
        (Reply::status(204), 200, success),
        (Reply::TruncatedBody(200), 200, success),
    ];
    for (place, (reply, status, body)) in cases.into_iter().enumerate() {
        far.enqueue_replies([reply.clone()]);
        let answer = row(&relay, What::Event, numbered(What::Event, place), &[]).await;
        assert_eq!((answer.status, answer.text()), (status, body.to_owned()), "{reply:?}");
        becomes(&relay, place, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
        assert_eq!(far.received().len(), place + 1);
    }
}

#[tokio::test]
async fn a_409_on_an_event_is_a_duplicate() {
    let far = MockDestination::start(Reply::json(409, r#"{"success":false,"message":"Already processed"}"#)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let answer = row(&relay, What::Event, numbered(What::Event, 0), &[]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"success": true, "duplicate": true})));
    becomes(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(far.received().len(), 1);
}

#[tokio::test]
async fn a_refusal_of_loops_is_the_callers_and_nothing_is_kept() {
    let far = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let contacts = [400, 402, 403, 404, 405, 409, 410, 413, 415, 418, 422, 451, 499];
    let events = [400, 403, 404, 410, 413, 422];
    let contacts = contacts.map(|status| (What::Contact, status));
    let cases: Vec<_> = contacts.into_iter().chain(events.map(|status| (What::Event, status))).collect();
    for (what, status) in cases.iter().copied() {
        far.enqueue_replies([Reply::json(status, r#"{"success":false,"message":"Because."}"#)]);
        let answer = row(&relay, what, numbered(what, 0), &[]).await;
        let told = if [400, 404, 409, 422].contains(&status) { status } else { 400 };
        assert_eq!(answer.status_and_code(), (told, "loops_rejected".to_owned()), "{status}");
        assert_eq!(answer.json()["message"], "Because.", "{status}");
    }
    assert_eq!(far.received().len(), cases.len());
    assert_eq!(relay.deliveries().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_refused_key_is_read_again_once_and_then_told() {
    let far = MockDestination::start(Reply::json(401, r#"{"error":"Invalid API key"}"#)).await;
    let relay = Relay::start(&loops(&far.url("/api"), "wrong")).await;
    for what in [What::Contact, What::Event] {
        let before = far.received().len();
        let answer = row(&relay, what, numbered(what, 0), &[]).await;
        assert_eq!(answer.status_and_code(), (502, "loops_key_rejected".to_owned()));
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(Relay::LOOPS_API_KEY), "{message}");
        assert_eq!(far.received().len() - before, 2);
    }
    assert_eq!(relay.deliveries().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_newer_update_waits_behind_an_older_one_and_other_contacts_do_not() {
    let far = MockDestination::start(Reply::json(200, TAKEN)).await;
    far.enqueue_replies([Reply::status(503), Reply::status(503).with_header("Retry-After", "3")]);
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    let step = |step: usize| json!({"email": "Ada@example.com", "step": step});
    for number in 0..3 {
        assert_eq!(row(&relay, What::Contact, step(number), &[]).await.status, 202, "{number}");
    }
    // Also where the address is written in another case, and for an event.
    let event = json!({"email": "ada@Example.com", "eventName": "signup"});
    assert_eq!(row(&relay, What::Event, event.clone(), &[]).await.status, 202);
    let bob = numbered(What::Event, 1);
    assert_eq!(row(&relay, What::Event, bob.clone(), &[]).await.status, 200);
    for place in 0..5 {
        becomes(&relay, place, json!({"state": "delivered"})).await;
    }
    let bodies: Vec<Value> = far.received().iter().map(|got| serde_json::from_slice(&got.body).unwrap()).collect();
    assert_eq!(bodies, [step(0), step(0), bob, step(0), step(1), step(2), event]);
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_replaced_while_the_caller_waits() {
    let far = MockDestination::start(Reply::json(200, TAKEN)).await;
    far.enqueue_replies([Reply::RespondThenReset]);
    let relay = Relay::start(&loops(&far.url("/api"), "key")).await;
    for number in [0, 1] {
        let answer = row(&relay, What::Contact, numbered(What::Contact, number), &[]).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(far.received().len(), 2);
}
