//! The one-machine relay while its store is not writable, and the contents of the store.

use std::sync::Arc;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::Relay;
use relay_testkit::row::{contact, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::contract::rows::{ROUTES, assert_queued, contact_row, row_on, start_loops, start_relay};
use crate::contract::webhooks::{self, MAX_REQUEST_BYTES, assert_accepted, event_of_size, start_clay};

/// Makes a store reject inserts, as a full disk does; existing rows can be read.
const FILL_STORE_SQL: &str =
    "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END";

#[tokio::test]
async fn unstorable_row_is_sent_on_fast_path_or_gets_429() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let store = relay_sqlite::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch(FILL_STORE_SQL).unwrap();
    for (number, headers) in [&[][..], &[("prefer", "respond-async")]].into_iter().enumerate() {
        for route in ROUTES {
            let row = row_on(route, &format!("n{number}@example.com"));
            let response = send(relay.base(), route, "", headers, row).await;
            assert_eq!((response.status, response.json()), (200, json!({"success": true})));
        }
    }
    assert_eq!(loops.received().len(), 4);
    let assert_unavailable = |response: &Response| {
        response.assert_error_response(429, "unavailable", None);
        assert_eq!(response.headers["retry-after"], "1");
    };
    for status in [500, 503, 429] {
        loops.set_default_reply(Reply::status(status));
        for route in ROUTES {
            assert_unavailable(&send(relay.base(), route, "", &[], row_on(route, "ada@example.com")).await);
        }
    }
    assert!(relay.deliveries().await.is_empty());
    store.execute_batch("DROP TRIGGER full").unwrap();
    let id = assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(relay.wait_for_state("delivered").await["id"], id.as_str());
}

#[tokio::test]
async fn unstorable_row_does_not_overtake_queued_row_of_contact() {
    let loops = MockDestination::start(Reply::status(500).with_header("Retry-After", "5")).await;
    let relay = start_relay(&loops, &[]).await;
    assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    let store = relay_sqlite::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch(FILL_STORE_SQL).unwrap();
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    let newer = contact(relay.base(), contact_row("ADA@example.com")).await;
    newer.assert_error_response(429, "unavailable", None);
    assert_eq!(contact(relay.base(), contact_row("bob@example.com")).await.status, 200, "another contact is sent");
}

#[tokio::test]
async fn unstorable_rows_of_a_contact_are_sent_one_at_a_time() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let store = relay_sqlite::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch(FILL_STORE_SQL).unwrap();
    let gate = Arc::new(Semaphore::new(0));
    loops.enqueue_replies([Reply::Gated(Arc::clone(&gate))]);
    let base = relay.base().to_owned();
    let older = tokio::spawn(async move { contact(&base, contact_row("ada@example.com")).await });
    eventually("the older row at Loops", async || (loops.received().len() == 1).then_some(())).await;
    contact(relay.base(), contact_row("ADA@example.com")).await.assert_error_response(429, "unavailable", None);
    assert_eq!(contact(relay.base(), contact_row("bob@example.com")).await.status, 200, "another contact is sent");
    // What can be stored meanwhile waits until the older one has ended.
    store.execute_batch("DROP TRIGGER full").unwrap();
    let newer = json!({"email": "ada@example.com", "step": 2}).to_string();
    let id = assert_queued(&contact(relay.base(), newer).await);
    gate.add_permits(1);
    assert_eq!(older.await.unwrap().status, 200);
    eventually("the newer row", async || {
        relay
            .deliveries()
            .await
            .iter()
            .find(|delivery| delivery["id"] == id.as_str() && delivery["state"] == "delivered")
            .map(|_| ())
    })
    .await;
    let bodies: Vec<String> =
        loops.received().iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect();
    assert!(
        bodies.len() == 3 && bodies[0].contains("ada") && bodies[1].contains("bob") && bodies[2].contains("step"),
        "{bodies:?}"
    );
}

#[tokio::test]
async fn rows_take_fast_path_while_the_store_is_locked() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let store = relay_sqlite::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..3 {
        let response = contact(relay.base(), contact_row(&format!("n{number}@example.com"))).await;
        assert_eq!((response.status, response.json()), (200, json!({"success": true})));
    }
    store.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn webhook_gets_503_until_the_store_is_writable() {
    let relay = webhooks::start_relay(&start_clay().await, &[]).await;
    let body = contact_created("ada@example.com");
    let store = relay_sqlite::open_existing(relay.folder()).unwrap().unwrap();
    for (error, restore_sql) in [
        ("CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'full'); END", "DROP TRIGGER full"),
        ("BEGIN IMMEDIATE", "ROLLBACK"),
    ] {
        store.execute_batch(error).unwrap();
        let response = post(relay.base(), "msg_1", &body).await;
        response.assert_error_response(503, "unavailable", None);
        assert!(response.headers["retry-after"].parse::<u32>().is_ok_and(|seconds| seconds > 0));
        store.execute_batch(restore_sql).unwrap();
    }
    assert_accepted(&post(relay.base(), "msg_1", &body).await, "queued");
}

#[tokio::test]
async fn dead_letter_keeps_its_body() {
    let relay = webhooks::start_relay(&start_clay().await, &[]).await;
    let oversized = event_of_size("contact.created", "API", MAX_REQUEST_BYTES);
    assert_accepted(&post(relay.base(), "msg_1", &oversized).await, "rejected");
    relay.wait_for_state("dead").await;
    let stored: Vec<u8> = ["relay.db", "relay.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(relay.folder().join(name)).unwrap_or_default())
        .collect();
    let occurrences = stored.windows(17).filter(|bytes| bytes == b"kept as it came; ").count();
    assert!(occurrences > MAX_REQUEST_BYTES / 20, "{occurrences}");
}

#[tokio::test]
async fn delivered_body_leaves_the_files_of_a_running_relay() {
    const COUNT: usize = 30;
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    for number in 0..COUNT {
        let body = contact_created(&format!("n{number}@delivered.example"));
        assert_accepted(&post(relay.base(), &format!("msg_{number}"), &body).await, "queued");
    }
    eventually("every delivery", async || {
        let deliveries = relay.deliveries().await;
        (deliveries.iter().filter(|delivery| delivery["state"] == "delivered").count() == COUNT).then_some(())
    })
    .await;
    eventually("files without an address", async || {
        let has_address = |name: &&str| {
            let stored = std::fs::read(relay.folder().join(name)).unwrap();
            stored.windows(17).any(|bytes| bytes == b"delivered.example")
        };
        ["relay.db", "relay.db-wal"].iter().all(|name| !has_address(name)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn contact_is_listed_under_its_response_delivery_id() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let response = contact(relay.base(), contact_row("ada@example.com")).await;
    assert_eq!(relay.wait_for_state("delivered").await["id"], response.headers["x-relay-delivery-id"].as_str());
}

/// Checks that nothing is taken any more, that monitoring tells, and that the log has one line of it, with the remedy.
async fn assert_takes_nothing(relay: &Relay) {
    for number in 0..3 {
        let webhook = post(relay.base(), &format!("msg_{number}"), &contact_created("ada@example.com")).await;
        webhook.assert_error_response(503, "unavailable", None);
        for (route, headers) in ROUTES.into_iter().zip([&[][..], &[("prefer", "respond-async")]]) {
            let row = row_on(route, &format!("n{number}@example.com"));
            send(relay.base(), route, "", headers, row).await.assert_error_response(429, "unavailable", None);
        }
    }
    let health = relay_testkit::http::send("GET", &format!("{}/healthz", relay.base()), &[], "").await;
    assert_eq!(health.status, 503);
}

fn remedy_count(log: &str) -> usize {
    log.lines().filter(|line| line.contains("deleted, moved, replaced or cut") && line.contains("restart")).count()
}

#[tokio::test]
async fn nothing_is_taken_after_a_file_of_the_store_is_gone() {
    for name in ["relay.db", "relay.db-wal", "relay.db-shm"] {
        let loops = start_loops().await;
        let relay = start_relay(&loops, &[]).await;
        assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200);
        std::fs::remove_file(relay.folder().join(name)).unwrap();
        assert_takes_nothing(&relay).await;
        assert_eq!((loops.received().len(), remedy_count(&relay.log())), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_taken_after_the_store_is_replaced() {
    let relay = Relay::start(&[]).await;
    let store = relay.folder().join("relay.db");
    let copy = relay.folder().join("copy.db");
    std::fs::copy(&store, &copy).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    assert_takes_nothing(&relay).await;
    assert_eq!(remedy_count(&relay.log()), 1);
}

#[tokio::test]
async fn moved_data_folder_takes_nothing_until_it_is_back() {
    let (parent, relay) = (tempfile::tempdir().unwrap(), Relay::start(&[]).await);
    let elsewhere = parent.path().join("elsewhere");
    std::fs::rename(relay.folder(), &elsewhere).unwrap();
    assert_takes_nothing(&relay).await;
    std::fs::rename(&elsewhere, relay.folder()).unwrap();
    assert_accepted(&post(relay.base(), "msg_1", &contact_created("ada@example.com")).await, "queued");
}

#[tokio::test]
async fn what_waits_is_delivered_after_the_data_folder_is_deleted() {
    let clay = MockDestination::start(Reply::status(503)).await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    assert_accepted(&post(relay.base(), "msg_1", &contact_created("ada@example.com")).await, "queued");
    eventually("a refused row", async || (!clay.received().is_empty()).then_some(())).await;
    std::fs::remove_dir_all(relay.folder()).unwrap();
    clay.set_default_reply(Reply::status(200));
    let tries = clay.received().len();
    eventually("another try", async || (clay.received().len() > tries).then_some(())).await;
}
