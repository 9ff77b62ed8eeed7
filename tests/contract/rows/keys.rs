//! Idempotency keys of events, and the response to a repeated event.

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, event, send};
use serde_json::json;

use super::{assert_queued, assert_response, contact_row, row_for, start_loops, start_relay, wait_for_bodies};
use crate::Relay;

/// The keys that Loops got.
fn received_keys(loops: &MockDestination) -> Vec<String> {
    loops.received().iter().map(|request| request.header("idempotency-key").to_owned()).collect()
}

#[tokio::test]
async fn event_known_to_loops_is_a_duplicate() {
    let loops =
        MockDestination::start(Reply::json(409, r#"{"success":false,"message":"Idempotency key has been used"}"#))
            .await;
    let relay = start_relay(&loops, &[]).await;
    let response = event(relay.base(), row_for("ada@example.com")).await;
    assert_response(&response, 200, &json!({"success": true, "duplicate": true}));
    assert_eq!(loops.received().len(), 1);
    let repeat = event(relay.base(), row_for("ada@example.com")).await;
    assert_response(&repeat, 200, &json!({"success": true, "duplicate": true}));
}

#[tokio::test]
async fn repeated_event_is_a_duplicate_even_after_a_restart() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    assert_response(&event(relay.base(), row_for("ada@example.com")).await, 200, &json!({"success": true}));
    let duplicate = json!({"success": true, "duplicate": true});
    assert_response(&event(relay.base(), row_for("ada@example.com")).await, 200, &duplicate);
    let api = loops.url("/api");
    let settings = [("LOOPS_API_URL", api.as_str()), ("LOOPS_API_KEY", "loops-key")];
    let relay = Relay::start_in(relay.kill().await, &settings).await;
    assert_response(&event(relay.base(), row_for("ada@example.com")).await, 200, &duplicate);
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn concurrent_repeats_are_one_event() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let calls = (0..12).map(|_| {
        let base = relay.base().to_owned();
        tokio::spawn(async move { event(&base, row_for("ada@example.com")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let response = call.await.unwrap();
        assert!(response.status == 200 || response.status == 202, "{}", response.text());
    }
    relay.wait_for_state("delivered").await;
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn repeat_of_event_in_flight_gets_its_outcome() {
    let loops = MockDestination::start(Reply::Hang).await;
    let relay = start_relay(&loops, &[]).await;
    let base = relay.base().to_owned();
    let first = tokio::spawn(async move { event(&base, row_for("ada@example.com")).await });
    relay_testkit::eventually("the call at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    let second = assert_queued(&event(relay.base(), row_for("ada@example.com")).await);
    assert_eq!(assert_queued(&first.await.unwrap()), second);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(relay.wait_for_state("delivered").await["id"], second.as_str());
}

#[tokio::test]
async fn event_rejected_by_loops_may_be_resent_under_same_key() {
    let loops = start_loops().await;
    loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"No."}"#)]);
    let relay = start_relay(&loops, &[]).await;
    event(relay.base(), row_for("ada@example.com")).await.assert_error_response(400, "loops_rejected", None);
    assert_response(&event(relay.base(), row_for("ada@example.com")).await, 200, &json!({"success": true}));
    let keys = received_keys(&loops);
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]), "under the same key");
}

#[tokio::test]
async fn event_key_ignores_other_fields_and_formatting() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let first =
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","eventProperties":{"plan":"pro","seats":3}}"#;
    assert_response(&event(relay.base(), first).await, 200, &json!({"success": true}));
    for variant in [
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","company":"Ltd","mailingLists":{"a":true},"eventProperties":{"plan":"pro","seats":3}}"#,
        r#"{ "eventProperties" : { "seats" : 3 , "plan" : "pro" }, "eventName" : "x", "userId" : "u1", "email" : "ada@example.com" }"#,
        r#"{"email":" ADA@Example.com ","userId":"u1","eventName":"x","eventProperties":{"plan":"pro","seats":3},"subscribed":"true"}"#,
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","firstName":"Ada","eventProperties":"{\"plan\":\"pro\",\"seats\":3}"}"#,
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","eventProperties":{"plan":"pro","note":"","seats":3,"other":null}}"#,
        "{\"email\":\"ada@example.com\",\"userId\":\"u1\",\"eventName\":\"x\",\"bio\":\"two\nlines\",\"eventProperties\":{\"plan\":\"pro\",\"seats\":3}}",
    ] {
        assert_response(&event(relay.base(), variant).await, 200, &json!({"success": true, "duplicate": true}));
    }
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn different_name_contact_or_property_is_another_event() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let other_events = [
        r#"{"email":"ada@example.com","eventName":"x"}"#,
        r#"{"email":"ada@example.com","eventName":"X"}"#,
        r#"{"email":"bob@example.com","eventName":"x"}"#,
        r#"{"userId":"ada@example.com","eventName":"x"}"#,
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x"}"#,
        r#"{"email":"ada@example.com","eventName":"x","eventProperties":{"plan":"pro"}}"#,
        r#"{"email":"ada@example.com","eventName":"x","eventProperties":{"plan":"free"}}"#,
        r#"{"email":"ada@example.com","eventName":"x","eventProperties":{"Plan":"pro"}}"#,
        r#"{"email":"ada@example.com","eventName":"x","eventProperties":{"plan":"pro","a":"b"}}"#,
        r#"{"email":"ada@example.com","eventName":"x","eventProperties":{"planpro":"a","b":""}}"#,
    ];
    for other in other_events {
        assert_response(&event(relay.base(), other).await, 200, &json!({"success": true}));
    }
    let keys = received_keys(&loops);
    let unique_keys: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(unique_keys.len(), other_events.len());
    assert!(keys.iter().all(|key| (1..=100).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())));
}

#[tokio::test]
async fn key_of_the_caller_is_passed_to_loops() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let longest = "k".repeat(100);
    for (number, key) in ["k", longest.as_str(), "row:7/\"!~#;"].into_iter().enumerate() {
        let row = row_for(&format!("n{number}@example.com"));
        let response = send(relay.base(), Route::Event, "", &[("idempotency-key", key)], row.clone()).await;
        assert_response(&response, 200, &json!({"success": true}));
        let repeat = send(relay.base(), Route::Event, "", &[("idempotency-key", key)], row).await;
        assert_response(&repeat, 200, &json!({"success": true, "duplicate": true}));
    }
    assert_eq!(received_keys(&loops), ["k", &longest, "row:7/\"!~#;"]);
}

#[tokio::test]
async fn conflicting_event_under_same_key_is_dead_lettered() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let row = |plan: &str, city: &str| {
        json!({"email": "ada@example.com", "eventName": "e", "city": city, "eventProperties": {"plan": plan}})
            .to_string()
    };
    let key = [("idempotency-key", "row-7")];
    let first = send(relay.base(), Route::Event, "", &key, row("pro", "Berlin")).await;
    assert_response(&first, 200, &json!({"success": true}));
    let duplicate = json!({"success": true, "duplicate": true});
    for repeat in [row("pro", "Hamburg"), row("free", "Berlin"), row("free", "Berlin")] {
        assert_response(&send(relay.base(), Route::Event, "", &key, repeat).await, 200, &duplicate);
    }
    let all = relay.deliveries().await;
    let dead: Vec<_> =
        all.iter().filter(|delivery| delivery["state"] == "dead").map(|one| one["reason"].clone()).collect();
    assert_eq!((all.len(), dead, loops.received().len()), (2, vec![json!("id_conflict")], 1), "{all:?}");
}

#[tokio::test]
async fn key_used_for_another_contact_is_an_error_in_the_cell() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let key = [("idempotency-key", "welcome-2026")];
    let first = send(relay.base(), Route::Event, "", &key, row_for("ada@example.com")).await;
    assert_response(&first, 200, &json!({"success": true}));
    for contact in ["bob@example.com", "cyd@example.com", "bob@example.com"] {
        let response = send(relay.base(), Route::Event, "", &key, row_for(contact)).await;
        response.assert_error_response(400, "invalid_option", Some("Idempotency-Key"));
        assert!(!response.json().to_string().contains("example.com"), "{}", response.json());
    }
    let all = relay.deliveries().await;
    let dead = all.iter().filter(|delivery| delivery["reason"] == "id_conflict").count();
    assert_eq!((all.len(), dead, loops.received().len()), (3, 2, 1), "{all:?}");
}

#[tokio::test]
async fn invalid_key_of_the_caller_is_400_and_named() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let long = "k".repeat(101);
    for key in
        ["", &long, "a b", "a\tb", "schlüssel", "✓", "undefined", "N/A", "/RowId", "{{RowID}}", "row-null", "a,b"]
    {
        for query in ["", "dedupe=off"] {
            let response =
                send(relay.base(), Route::Event, query, &[("idempotency-key", key)], row_for("ada@example.com")).await;
            let code = response.status_and_code().1;
            response.assert_error_response(400, &code, Some("Idempotency-Key"));
        }
    }
    assert!(loops.received().is_empty());
}

#[tokio::test]
async fn two_keys_of_the_caller_are_400() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for other in ["row-7", "row-8"] {
        let headers = [("idempotency-key", "row-7"), ("idempotency-key", other)];
        let response = send(relay.base(), Route::Event, "", &headers, row_for("ada@example.com")).await;
        response.assert_error_response(400, "invalid_option", Some("Idempotency-Key"));
    }
    assert!(loops.received().is_empty());
}

#[tokio::test]
async fn dedupe_off_sends_a_repeat_under_a_new_key() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for _ in 0..2 {
        let response = send(relay.base(), Route::Event, "dedupe=off", &[], row_for("ada@example.com")).await;
        assert_response(&response, 200, &json!({"success": true}));
    }
    let keys = received_keys(&loops);
    assert!(keys.len() == 2 && keys[0] != keys[1] && keys.iter().all(|key| !key.is_empty()), "{keys:?}");
}

#[tokio::test]
async fn key_of_the_caller_overrides_dedupe_off() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let key = [("idempotency-key", "row-7")];
    let first = send(relay.base(), Route::Event, "dedupe=off", &key, row_for("ada@example.com")).await;
    assert_response(&first, 200, &json!({"success": true}));
    let second = send(relay.base(), Route::Event, "dedupe=off", &key, row_for("ada@example.com")).await;
    assert_response(&second, 200, &json!({"success": true, "duplicate": true}));
    assert_eq!(received_keys(&loops), ["row-7"]);
}

#[tokio::test]
async fn every_attempt_of_an_event_carries_the_same_key() {
    for query in ["", "dedupe=off"] {
        let loops = start_loops().await;
        loops.enqueue_replies([Reply::status(500), Reply::status(500), Reply::status(502)]);
        let relay = start_relay(&loops, &[]).await;
        assert_queued(&send(relay.base(), Route::Event, query, &[], row_for("ada@example.com")).await);
        relay.wait_for_state("delivered").await;
        let keys = received_keys(&loops);
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| *key == keys[0] && !key.is_empty()), "{keys:?}");
    }
}

#[tokio::test]
async fn repeat_of_queued_event_has_same_id_and_is_sent_once() {
    let loops = MockDestination::start(Reply::status(503)).await;
    let relay = start_relay(&loops, &[]).await;
    let first = assert_queued(&event(relay.base(), row_for("ada@example.com")).await);
    for headers in [&[][..], &[("prefer", "respond-async")]] {
        let repeat = send(relay.base(), Route::Event, "", headers, row_for("ADA@example.com")).await;
        assert_eq!(assert_queued(&repeat), first);
    }
    let other = assert_queued(&event(relay.base(), row_for("bob@example.com")).await);
    assert_ne!(other, first);
    let before = loops.received().len();
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    wait_for_bodies(&loops, before + 2).await;
    let listed = relay_testkit::eventually("both delivered", async || {
        let deliveries = relay.deliveries().await;
        deliveries.iter().all(|delivery| delivery["state"] == "delivered").then_some(deliveries)
    })
    .await;
    let ids: Vec<&str> = listed.iter().filter_map(|delivery| delivery["id"].as_str()).collect();
    assert_eq!(ids, [first.as_str(), &other]);
    let repeat = event(relay.base(), row_for("ada@example.com")).await;
    assert_response(&repeat, 200, &json!({"success": true, "duplicate": true}));
    assert_eq!(loops.received().len(), before + 2);
}

#[tokio::test]
async fn repeated_contact_is_sent_every_time() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for _ in 0..3 {
        let response = send(relay.base(), Route::Contact, "", &[], contact_row("ada@example.com")).await;
        assert_response(&response, 200, &json!({"success": true}));
    }
    assert_eq!(loops.received().len(), 3);
}
