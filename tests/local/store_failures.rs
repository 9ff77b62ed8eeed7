//! What the relay on one machine does while its store cannot be written, and what is in it.

use std::sync::Arc;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{contact, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::contract::rows::{ROUTES, assert_queued, loops, relay_to, row_of};
use crate::contract::webhooks::{self, REQUEST_BYTES, assert_taken, clay, event_of};

/// Makes a store refuse everything new, as a full disk does; what it has can still be read.
const FULL: &str = "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END";

#[tokio::test]
async fn what_cannot_be_stored_is_sent_where_loops_has_room_and_answered_429_where_it_has_none() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let store = relay_sqlite::store::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch(FULL).unwrap();
    for (number, headers) in [&[][..], &[("prefer", "respond-async")]].into_iter().enumerate() {
        for route in ROUTES {
            let row = row_of(&format!("n{number}@example.com"));
            let sent = send(relay.base(), route, "", headers, row).await;
            assert_eq!((sent.status, sent.json()), (200, json!({"success": true})));
        }
    }
    assert_eq!(loops.received().len(), 4);
    let unavailable = |answer: &Response| {
        answer.assert_error_response(429, "unavailable", None);
        assert_eq!(answer.headers["retry-after"], "1");
    };
    for status in [500, 503, 429] {
        loops.set_default_reply(Reply::status(status));
        for route in ROUTES {
            unavailable(&send(relay.base(), route, "", &[], row_of("ada@example.com")).await);
        }
    }
    assert!(relay.deliveries().await.is_empty());
    store.execute_batch("DROP TRIGGER full").unwrap();
    let id = assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(relay.wait_for_state("delivered").await["id"], id.as_str());
}

#[tokio::test]
async fn a_row_that_cannot_be_stored_does_not_overtake_one_of_the_same_contact_that_waits() {
    let loops = MockDestination::start(Reply::status(500).with_header("Retry-After", "5")).await;
    let relay = relay_to(&loops, &[]).await;
    assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    let store = relay_sqlite::store::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch(FULL).unwrap();
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    let newer = contact(relay.base(), row_of("ADA@example.com")).await;
    newer.assert_error_response(429, "unavailable", None);
    assert_eq!(contact(relay.base(), row_of("bob@example.com")).await.status, 200, "another contact is sent");
}

#[tokio::test]
async fn rows_of_a_contact_that_cannot_be_stored_are_sent_one_at_a_time() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let store = relay_sqlite::store::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch(FULL).unwrap();
    let gate = Arc::new(Semaphore::new(0));
    loops.enqueue_replies([Reply::Gated(Arc::clone(&gate))]);
    let base = relay.base().to_owned();
    let older = tokio::spawn(async move { contact(&base, row_of("ada@example.com")).await });
    eventually("the older row at Loops", async || (loops.received().len() == 1).then_some(())).await;
    contact(relay.base(), row_of("ADA@example.com")).await.assert_error_response(429, "unavailable", None);
    assert_eq!(contact(relay.base(), row_of("bob@example.com")).await.status, 200, "another contact is sent");
    // What can be stored meanwhile waits until the older one has ended.
    store.execute_batch("DROP TRIGGER full").unwrap();
    let newer = json!({"email": "ada@example.com", "step": 2}).to_string();
    let id = assert_queued(&contact(relay.base(), newer).await);
    gate.add_permits(1);
    assert_eq!(older.await.unwrap().status, 200);
    eventually("the newer row", async || {
        relay.deliveries().await.iter().find(|one| one["id"] == id.as_str() && one["state"] == "delivered").map(|_| ())
    })
    .await;
    let got: Vec<String> =
        loops.received().iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect();
    assert!(got.len() == 3 && got[0].contains("ada") && got[1].contains("bob") && got[2].contains("step"), "{got:?}");
}

#[tokio::test]
async fn while_another_program_has_the_store_a_row_is_sent_where_loops_has_room() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let store = relay_sqlite::store::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..3 {
        let answer = contact(relay.base(), row_of(&format!("n{number}@example.com"))).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"success": true})));
    }
    store.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_503_and_the_webhook_is_taken_when_it_can() {
    let relay = webhooks::relay_to(&clay().await, &[]).await;
    let body = contact_created("ada@example.com");
    let store = relay_sqlite::store::open_existing(relay.folder()).unwrap().unwrap();
    for (error, mended) in [
        ("CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'full'); END", "DROP TRIGGER full"),
        ("BEGIN IMMEDIATE", "ROLLBACK"),
    ] {
        store.execute_batch(error).unwrap();
        let answer = post(relay.base(), "msg_1", &body).await;
        answer.assert_error_response(503, "unavailable", None);
        assert!(answer.headers["retry-after"].parse::<u32>().is_ok_and(|seconds| seconds > 0));
        store.execute_batch(mended).unwrap();
    }
    assert_taken(&post(relay.base(), "msg_1", &body).await, "queued");
}

#[tokio::test]
async fn a_dead_letter_keeps_its_body() {
    let relay = webhooks::relay_to(&clay().await, &[]).await;
    let larger = event_of("contact.created", "API", REQUEST_BYTES);
    assert_taken(&post(relay.base(), "msg_1", &larger).await, "rejected");
    relay.wait_for_state("dead").await;
    let stored: Vec<u8> = ["relay.db", "relay.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(relay.folder().join(name)).unwrap_or_default())
        .collect();
    let kept = stored.windows(17).filter(|bytes| bytes == b"kept as it came; ").count();
    assert!(kept > REQUEST_BYTES / 20, "{kept}");
}

#[tokio::test]
async fn a_contact_is_listed_under_the_id_that_its_answer_had() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let answer = contact(relay.base(), row_of("ada@example.com")).await;
    assert_eq!(relay.wait_for_state("delivered").await["id"], answer.headers["x-relay-delivery-id"].as_str());
}
