//! Events are sent once: the keys that see to it, and what a repeat is answered.

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, event, send};
use serde_json::json;

use super::{assert_answer, assert_queued, bodies, loops, relay_to, row_of};
use crate::Relay;

/// The keys that Loops got.
fn keys(loops: &MockDestination) -> Vec<String> {
    loops.received().iter().map(|got| got.header("idempotency-key").to_owned()).collect()
}

#[tokio::test]
async fn an_event_that_loops_knows_is_answered_as_a_duplicate() {
    let loops =
        MockDestination::start(Reply::json(409, r#"{"success":false,"message":"Idempotency key has been used"}"#))
            .await;
    let relay = relay_to(&loops, &[]).await;
    let answer = event(relay.base(), row_of("ada@example.com")).await;
    assert_answer(&answer, 200, &json!({"success": true, "duplicate": true}));
    assert_eq!(loops.received().len(), 1);
    let again = event(relay.base(), row_of("ada@example.com")).await;
    assert_answer(&again, 200, &json!({"success": true, "duplicate": true}));
}

#[tokio::test]
async fn a_repeat_of_an_event_is_answered_as_a_duplicate_without_another_call_also_after_a_restart() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    assert_answer(&event(relay.base(), row_of("ada@example.com")).await, 200, &json!({"success": true}));
    let duplicate = json!({"success": true, "duplicate": true});
    assert_answer(&event(relay.base(), row_of("ada@example.com")).await, 200, &duplicate);
    let api = loops.url("/api");
    let settings = [("LOOPS_API_URL", api.as_str()), ("LOOPS_API_KEY", "loops-key")];
    let relay = Relay::start_in(relay.kill().await, &settings).await;
    assert_answer(&event(relay.base(), row_of("ada@example.com")).await, 200, &duplicate);
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn many_at_once_are_still_one_event() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let calls = (0..12).map(|_| {
        let base = relay.base().to_owned();
        tokio::spawn(async move { event(&base, row_of("ada@example.com")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        assert!(answer.status == 200 || answer.status == 202, "{}", answer.text());
    }
    relay.wait_for_state("delivered").await;
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn a_repeat_of_an_event_that_is_being_sent_is_told_what_became_of_it() {
    let loops = MockDestination::start(Reply::Hang).await;
    let relay = relay_to(&loops, &[]).await;
    let base = relay.base().to_owned();
    let first = tokio::spawn(async move { event(&base, row_of("ada@example.com")).await });
    relay_testkit::eventually("the call at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    let second = assert_queued(&event(relay.base(), row_of("ada@example.com")).await);
    assert_eq!(assert_queued(&first.await.unwrap()), second);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(relay.wait_for_state("delivered").await["id"], second.as_str());
}

#[tokio::test]
async fn an_event_that_loops_refused_was_not_sent_and_may_be_run_again() {
    let loops = loops().await;
    loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"No."}"#)]);
    let relay = relay_to(&loops, &[]).await;
    event(relay.base(), row_of("ada@example.com")).await.assert_error_response(400, "loops_rejected", None);
    assert_answer(&event(relay.base(), row_of("ada@example.com")).await, 200, &json!({"success": true}));
    let keys = keys(&loops);
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]), "under the same key");
}

#[tokio::test]
async fn the_same_event_has_the_same_key_whatever_else_the_row_says_and_however_it_is_written() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let first =
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","eventProperties":{"plan":"pro","seats":3}}"#;
    assert_answer(&event(relay.base(), first).await, 200, &json!({"success": true}));
    for same in [
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","company":"Ltd","mailingLists":{"a":true},"eventProperties":{"plan":"pro","seats":3}}"#,
        r#"{ "eventProperties" : { "seats" : 3 , "plan" : "pro" }, "eventName" : "x", "userId" : "u1", "email" : "ada@example.com" }"#,
        r#"{"email":" ADA@Example.com ","userId":"u1","eventName":"x","eventProperties":{"plan":"pro","seats":3},"subscribed":"true"}"#,
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","firstName":"Ada","eventProperties":"{\"plan\":\"pro\",\"seats\":3}"}"#,
        r#"{"email":"ada@example.com","userId":"u1","eventName":"x","eventProperties":{"plan":"pro","note":"","seats":3,"other":null}}"#,
        "{\"email\":\"ada@example.com\",\"userId\":\"u1\",\"eventName\":\"x\",\"bio\":\"two\nlines\",\"eventProperties\":{\"plan\":\"pro\",\"seats\":3}}",
    ] {
        assert_answer(&event(relay.base(), same).await, 200, &json!({"success": true, "duplicate": true}));
    }
    assert_eq!(loops.received().len(), 1);
}

#[tokio::test]
async fn another_name_contact_or_property_is_another_event() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let others = [
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
    for other in others {
        assert_answer(&event(relay.base(), other).await, 200, &json!({"success": true}));
    }
    let keys = keys(&loops);
    let different: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(different.len(), others.len());
    assert!(keys.iter().all(|key| (1..=100).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())));
}

#[tokio::test]
async fn a_callers_key_is_what_loops_gets() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let longest = "k".repeat(100);
    for (number, key) in ["k", longest.as_str(), "row:7/\"!~#,;"].into_iter().enumerate() {
        let row = row_of(&format!("n{number}@example.com"));
        let answer = send(relay.base(), Route::Event, "", &[("idempotency-key", key)], row.clone()).await;
        assert_answer(&answer, 200, &json!({"success": true}));
        let again = send(relay.base(), Route::Event, "", &[("idempotency-key", key)], row).await;
        assert_answer(&again, 200, &json!({"success": true, "duplicate": true}));
    }
    assert_eq!(keys(&loops), ["k", &longest, "row:7/\"!~#,;"]);
}

#[tokio::test]
async fn another_event_under_a_callers_key_is_not_sent_and_kept_as_a_dead_letter_and_an_enriched_one_is_not() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let row = |plan: &str, city: &str| {
        json!({"email": "ada@example.com", "eventName": "e", "city": city, "eventProperties": {"plan": plan}})
            .to_string()
    };
    let key = [("idempotency-key", "row-7")];
    let first = send(relay.base(), Route::Event, "", &key, row("pro", "Berlin")).await;
    assert_answer(&first, 200, &json!({"success": true}));
    let duplicate = json!({"success": true, "duplicate": true});
    for again in [row("pro", "Hamburg"), row("free", "Berlin"), row("free", "Berlin")] {
        assert_answer(&send(relay.base(), Route::Event, "", &key, again).await, 200, &duplicate);
    }
    let all = relay.deliveries().await;
    let dead: Vec<_> = all.iter().filter(|one| one["state"] == "dead").map(|one| one["reason"].clone()).collect();
    assert_eq!((all.len(), dead, loops.received().len()), (2, vec![json!("id_conflict")], 1), "{all:?}");
}

#[tokio::test]
async fn a_callers_key_that_is_empty_too_long_or_not_visible_ascii_is_400_and_named() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let long = "k".repeat(101);
    for key in ["", &long, "a b", "a\tb", "schlüssel", "✓"] {
        for query in ["", "dedupe=off"] {
            let answer =
                send(relay.base(), Route::Event, query, &[("idempotency-key", key)], row_of("ada@example.com")).await;
            let code = answer.status_and_code().1;
            answer.assert_error_response(400, &code, Some("Idempotency-Key"));
        }
    }
    assert!(loops.received().is_empty());
}

#[tokio::test]
async fn with_dedupe_off_a_repeat_is_sent_again_under_another_key() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for _ in 0..2 {
        let answer = send(relay.base(), Route::Event, "dedupe=off", &[], row_of("ada@example.com")).await;
        assert_answer(&answer, 200, &json!({"success": true}));
    }
    let keys = keys(&loops);
    assert!(keys.len() == 2 && keys[0] != keys[1] && keys.iter().all(|key| !key.is_empty()), "{keys:?}");
}

#[tokio::test]
async fn a_callers_key_wins_over_dedupe_off() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let key = [("idempotency-key", "row-7")];
    let first = send(relay.base(), Route::Event, "dedupe=off", &key, row_of("ada@example.com")).await;
    assert_answer(&first, 200, &json!({"success": true}));
    let second = send(relay.base(), Route::Event, "dedupe=off", &key, row_of("ada@example.com")).await;
    assert_answer(&second, 200, &json!({"success": true, "duplicate": true}));
    assert_eq!(keys(&loops), ["row-7"]);
}

#[tokio::test]
async fn every_attempt_direct_or_queued_carries_the_same_key() {
    for query in ["", "dedupe=off"] {
        let loops = loops().await;
        loops.enqueue_replies([Reply::status(500), Reply::status(500), Reply::status(502)]);
        let relay = relay_to(&loops, &[]).await;
        assert_queued(&send(relay.base(), Route::Event, query, &[], row_of("ada@example.com")).await);
        relay.wait_for_state("delivered").await;
        let keys = keys(&loops);
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| *key == keys[0] && !key.is_empty()), "{keys:?}");
    }
}

#[tokio::test]
async fn a_repeat_of_an_event_that_waits_has_the_same_delivery_id_and_is_sent_once() {
    let loops = MockDestination::start(Reply::status(503)).await;
    let relay = relay_to(&loops, &[]).await;
    let first = assert_queued(&event(relay.base(), row_of("ada@example.com")).await);
    for headers in [&[][..], &[("prefer", "respond-async")]] {
        let again = send(relay.base(), Route::Event, "", headers, row_of("ADA@example.com")).await;
        assert_eq!(assert_queued(&again), first);
    }
    let other = assert_queued(&event(relay.base(), row_of("bob@example.com")).await);
    assert_ne!(other, first);
    let before = loops.received().len();
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    bodies(&loops, before + 2).await;
    let listed = relay_testkit::eventually("both delivered", async || {
        let deliveries = relay.deliveries().await;
        deliveries.iter().all(|delivery| delivery["state"] == "delivered").then_some(deliveries)
    })
    .await;
    let ids: Vec<&str> = listed.iter().filter_map(|delivery| delivery["id"].as_str()).collect();
    assert_eq!(ids, [first.as_str(), &other]);
    let again = event(relay.base(), row_of("ada@example.com")).await;
    assert_answer(&again, 200, &json!({"success": true, "duplicate": true}));
    assert_eq!(loops.received().len(), before + 2);
}

#[tokio::test]
async fn a_contact_is_no_event_and_is_sent_as_often_as_it_is_run() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for _ in 0..3 {
        let answer = send(relay.base(), Route::Contact, "", &[], row_of("ada@example.com")).await;
        assert_answer(&answer, 200, &json!({"success": true}));
    }
    assert_eq!(loops.received().len(), 3);
}
