//! Handling of Loops' responses to a row whose caller waits.

use std::time::{Duration, Instant};

use crate::Relay;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply, UnusedPort};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::clay::{TransientFailure, http_date_in, transient_failures, wait_for_delivery};
use super::loops::{RowKind, idempotency_keys, loops_settings, numbered_row, send_row};

const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;

/// The two quick tries that a caller waits for, the 202 after them, and the delivery after that.
async fn assert_tried_twice_and_queued((reply, reason, status): TransientFailure) {
    let destination = MockDestination::start(reply.clone()).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let started_at = Instant::now();
    let response = send_row(&relay, RowKind::Event, numbered_row(RowKind::Event, 0), &[]).await;
    let responded_at = Instant::now();
    assert_eq!((response.status, response.json()["status"].as_str()), (202, Some("queued")), "{reply:?}");
    assert!(responded_at - started_at < Duration::from_secs(12), "{reply:?}: {:?}", responded_at - started_at);
    let tries = destination.received().iter().filter(|request| request.received_at < responded_at).count();
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": reason, "status": status})).await;
    destination.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    let delivery = wait_for_delivery(&relay, 0, json!({"state": "delivered", "reason": null})).await;
    assert_eq!(response.json()["deliveryId"], delivery["id"], "{reply:?}");
    let requests = destination.received();
    assert!(matches!(idempotency_keys(&requests)[..], [Some(_)]), "{reply:?}: {:?}", idempotency_keys(&requests));
    // Where the first went into a pooled connection, it is repeated at once on a new one.
    let repeated = usize::from(matches!(reply, Reply::Reset));
    assert!((2..=2 + repeated).contains(&tries), "{reply:?}: {tries}");
}

#[tokio::test]
async fn transient_failure_is_tried_twice_then_queued_with_same_key() {
    let mut cases = JoinSet::new();
    for passing in transient_failures().into_iter().filter(|(_, reason, _)| *reason != "destination_throttled") {
        cases.spawn(assert_tried_twice_and_queued(passing));
    }
    cases.join_all().await;
}

#[tokio::test]
async fn rate_limited_row_is_tried_twice_then_queued() {
    assert_tried_twice_and_queued((Reply::status(429), "destination_throttled", Some(429))).await;
}

#[tokio::test]
async fn second_try_of_the_fast_path_may_succeed() {
    let mut cases = JoinSet::new();
    let retry_after_replies = [429, 503].map(|status| Reply::status(status).with_header("Retry-After", "1"));
    let other_replies = transient_failures().into_iter().map(|(reply, ..)| reply);
    let other_replies = other_replies.filter(|reply| !matches!(reply, Reply::Respond(429, ..)));
    for reply in other_replies.chain(retry_after_replies) {
        cases.spawn(async move {
            let destination = MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await;
            destination.enqueue_replies([reply.clone()]);
            let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
            let response = send_row(&relay, RowKind::Event, numbered_row(RowKind::Event, 0), &[]).await;
            assert_eq!((response.status, response.text()), (200, ACCEPTED_BODY.to_owned()), "{reply:?}");
            let requests = destination.received();
            assert_eq!((requests.len(), idempotency_keys(&requests).len()), (2, 1), "{reply:?}");
            if let Reply::Respond(_, headers, _) = &reply
                && headers.iter().any(|(name, _)| *name == "Retry-After")
            {
                assert!(requests[1].received_at - requests[0].received_at >= Duration::from_secs(1), "{reply:?}");
            }
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn long_retry_after_queues_the_row_until_then() {
    let mut cases = JoinSet::new();
    for status in [408, 425, 429, 302, 503] {
        for as_date in [false, true] {
            cases.spawn(async move {
                let destination = MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await;
                let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
                let (retry_after, earliest) = if as_date {
                    http_date_in(Duration::from_secs(4))
                } else {
                    ("2".to_owned(), Instant::now() + Duration::from_secs(2))
                };
                destination.enqueue_replies([Reply::status(status).with_header("Retry-After", &retry_after)]);
                let response = send_row(&relay, RowKind::Contact, numbered_row(RowKind::Contact, 0), &[]).await;
                assert_eq!(response.status, 202, "{status}, {retry_after}");
                wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
                assert!(destination.received()[1].received_at >= earliest, "{status}, {retry_after}");
            });
        }
    }
    cases.join_all().await;
}

#[tokio::test]
async fn row_is_delivered_after_loops_comes_up() {
    let unused_port = UnusedPort::new();
    let relay = Relay::start(&loops_settings(&unused_port.url("/api"), "key")).await;
    assert_eq!(send_row(&relay, RowKind::Contact, numbered_row(RowKind::Contact, 0), &[]).await.status, 202);
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "unreachable"})).await;
    let destination = unused_port.listen(Reply::json(200, ACCEPTED_BODY));
    wait_for_delivery(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(destination.received().len(), 1);
}

#[tokio::test]
async fn any_2xx_of_loops_is_passed_to_the_caller() {
    let destination = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let success = r#"{"success":true}"#;
    let cases = [
        (Reply::json(200, ACCEPTED_BODY), 200, ACCEPTED_BODY),
        (Reply::json(201, r#"{ "success" : true }"#), 201, r#"{ "success" : true }"#),
        (Reply::html(200), 200, success),
        (Reply::status(204), 200, success),
        (Reply::TruncatedBody(200), 200, success),
    ];
    for (index, (reply, status, body)) in cases.into_iter().enumerate() {
        destination.enqueue_replies([reply.clone()]);
        let response = send_row(&relay, RowKind::Event, numbered_row(RowKind::Event, index), &[]).await;
        assert_eq!((response.status, response.text()), (status, body.to_owned()), "{reply:?}");
        wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
        assert_eq!(destination.received().len(), index + 1);
    }
}

#[tokio::test]
async fn event_409_of_loops_is_a_duplicate() {
    let destination =
        MockDestination::start(Reply::json(409, r#"{"success":false,"message":"Already processed"}"#)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let response = send_row(&relay, RowKind::Event, numbered_row(RowKind::Event, 0), &[]).await;
    assert_eq!((response.status, response.json()), (200, json!({"success": true, "duplicate": true})));
    wait_for_delivery(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(destination.received().len(), 1);
}

#[tokio::test]
async fn rejection_by_loops_goes_to_caller_and_is_not_stored() {
    let destination = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let contacts = [400, 402, 403, 404, 405, 409, 410, 413, 415, 418, 422, 451, 499];
    let events = [400, 403, 404, 410, 413, 422];
    let contacts = contacts.map(|status| (RowKind::Contact, status));
    let cases: Vec<_> = contacts.into_iter().chain(events.map(|status| (RowKind::Event, status))).collect();
    for (kind, status) in cases.iter().copied() {
        destination.enqueue_replies([Reply::json(status, r#"{"success":false,"message":"Because."}"#)]);
        let response = send_row(&relay, kind, numbered_row(kind, 0), &[]).await;
        let expected_status = if [400, 404, 409, 422].contains(&status) { status } else { 400 };
        assert_eq!(response.status_and_code(), (expected_status, "loops_rejected".to_owned()), "{status}");
        assert_eq!(response.json()["message"], "Because.", "{status}");
    }
    assert_eq!(destination.received().len(), cases.len());
    assert_eq!(relay.deliveries().await, Vec::<Value>::new());
}

#[tokio::test]
async fn unauthorized_key_is_reread_once_then_reported() {
    let destination = MockDestination::start(Reply::json(401, r#"{"error":"Invalid API key"}"#)).await;
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "wrong")).await;
    for kind in [RowKind::Contact, RowKind::Event] {
        let before = destination.received().len();
        let response = send_row(&relay, kind, numbered_row(kind, 0), &[]).await;
        assert_eq!(response.status_and_code(), (502, "loops_key_rejected".to_owned()));
        let message = response.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(Relay::LOOPS_API_KEY), "{message}");
        assert_eq!(destination.received().len() - before, 2);
    }
    assert_eq!(relay.deliveries().await, Vec::<Value>::new());
}

#[tokio::test]
async fn newer_update_waits_for_older_one_but_not_other_contacts() {
    let destination = MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await;
    destination.enqueue_replies([Reply::status(503), Reply::status(503).with_header("Retry-After", "3")]);
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    let step = |step: usize| json!({"email": "Ada@example.com", "step": step});
    for number in 0..3 {
        assert_eq!(send_row(&relay, RowKind::Contact, step(number), &[]).await.status, 202, "{number}");
    }
    // Also where the address is written in another case, and for an event.
    let event = json!({"email": "ada@Example.com", "eventName": "signup"});
    assert_eq!(send_row(&relay, RowKind::Event, event.clone(), &[]).await.status, 202);
    let bob = numbered_row(RowKind::Event, 1);
    assert_eq!(send_row(&relay, RowKind::Event, bob.clone(), &[]).await.status, 200);
    for index in 0..5 {
        wait_for_delivery(&relay, index, json!({"state": "delivered"})).await;
    }
    let bodies: Vec<Value> =
        destination.received().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    assert_eq!(bodies, [step(0), step(0), bob, step(0), step(1), step(2), event]);
}

#[tokio::test]
async fn dead_pooled_connection_is_replaced_during_the_request() {
    let destination = MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await;
    destination.enqueue_replies([Reply::RespondThenReset]);
    let relay = Relay::start(&loops_settings(&destination.url("/api"), "key")).await;
    for number in [0, 1] {
        let response = send_row(&relay, RowKind::Contact, numbered_row(RowKind::Contact, number), &[]).await;
        assert_eq!(response.status, 200);
    }
    assert_eq!(destination.received().len(), 2);
}
