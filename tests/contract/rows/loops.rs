//! What Loops refuses, and what is said of it in a Clay cell.

use relay_testkit::MAX_MESSAGE_CHARS;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, contact, event, send};
use serde_json::{Value, json};

use super::{ROUTES, assert_answer, assert_queued, bodies, loops, relay_to, row_of};
use crate::Relay;

fn refusal_of(message: &str) -> String {
    json!({"success": false, "message": message}).to_string()
}

#[tokio::test]
async fn a_refusal_of_loops_comes_back_with_its_words_and_a_status_that_clay_takes_as_final() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for route in ROUTES {
        for (status, expected) in [
            (400, 400),
            (404, 404),
            (409, 409),
            (422, 422),
            (402, 400),
            (403, 400),
            (405, 400),
            (406, 400),
            (410, 400),
            (411, 400),
            (413, 400),
            (418, 400),
            (431, 400),
            (451, 400),
            (499, 400),
        ] {
            if route == Route::Event && status == 409 {
                continue;
            }
            loops.enqueue_replies([Reply::json(status, &refusal_of(&format!("Loops says {status}.")))]);
            let answer = send(relay.base(), route, "", &[], row_of(&format!("n{status}@example.com"))).await;
            answer.assert_error_response(expected, "loops_rejected", None);
            assert_eq!(answer.json()["message"], format!("Loops says {status}."));
        }
    }
    assert_eq!(loops.received().len(), 29, "each was called once");
    assert!(relay.deliveries().await.is_empty(), "what was refused does not wait");
}

#[tokio::test]
async fn a_long_message_of_loops_is_cut_to_300_characters() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let exact = "é".repeat(MAX_MESSAGE_CHARS);
    loops.enqueue_replies([Reply::json(400, &refusal_of(&exact))]);
    assert_eq!(contact(relay.base(), row_of("ada@example.com")).await.json()["message"], exact);

    loops.enqueue_replies([Reply::json(422, &refusal_of(&"é".repeat(5000)))]);
    let answer = contact(relay.base(), row_of("ada@example.com")).await;
    answer.assert_error_response(422, "loops_rejected", None);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
    assert!(message.starts_with(&"é".repeat(MAX_MESSAGE_CHARS - 1)));
}

#[tokio::test]
async fn a_refusal_without_words_of_loops_gets_a_sentence() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for (number, reply) in [
        Reply::html(404),
        Reply::status(403),
        Reply::json(400, "{}"),
        Reply::json(400, "[]"),
        Reply::json(400, "null"),
        Reply::json(400, r#"{"message":""}"#),
        Reply::json(400, r#"{"message":7}"#),
        Reply::json(400, r#"{"message":"half"#),
        Reply::TruncatedBody(400),
    ]
    .into_iter()
    .enumerate()
    {
        loops.enqueue_replies([reply]);
        let answer = event(relay.base(), row_of(&format!("n{number}@example.com"))).await;
        answer.assert_error_response(if number == 0 { 404 } else { 400 }, "loops_rejected", None);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(!message.contains('<') && message.split(' ').count() > 5 && message.ends_with('.'), "{message}");
    }
}

#[tokio::test]
async fn the_older_form_of_loops_errors_is_read_as_well() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for body in [
        r#"{"success":false,"error":"It is blocked."}"#,
        r#"{"success":false,"error":{"path":"email","message":"It is blocked."}}"#,
        r#"{"success":false,"message":"It is blocked.","error":"other"}"#,
    ] {
        loops.enqueue_replies([Reply::json(400, body)]);
        assert_eq!(
            contact(relay.base(), row_of("ada@example.com")).await.json()["message"],
            "It is blocked.",
            "{body}"
        );
    }
}

#[tokio::test]
async fn without_a_loops_key_every_row_is_502_and_the_secret_is_named() {
    for key in ["", " ", "REPLACE-with-your-key"] {
        let loops = loops().await;
        let relay = relay_to(&loops, &[("LOOPS_API_KEY", key)]).await;
        for route in ROUTES {
            for headers in [&[][..], &[("prefer", "respond-async")]] {
                let answer = send(relay.base(), route, "", headers, row_of("ada@example.com")).await;
                answer.assert_error_response(502, "not_configured", None);
                assert!(answer.text().contains(Relay::LOOPS_API_KEY), "{}", answer.text());
            }
        }
        assert!(loops.received().is_empty() && relay.deliveries().await.is_empty());
    }
}

#[tokio::test]
async fn a_key_that_loops_refuses_is_tried_exactly_once_more_and_named() {
    let loops = MockDestination::start(Reply::json(401, r#"{"success":false,"message":"Invalid API key"}"#)).await;
    let relay = relay_to(&loops, &[]).await;
    for (number, route) in ROUTES.into_iter().enumerate() {
        let answer = send(relay.base(), route, "", &[], row_of("ada@example.com")).await;
        answer.assert_error_response(502, "loops_key_rejected", None);
        assert!(answer.text().contains(Relay::LOOPS_API_KEY), "{}", answer.text());
        assert_eq!(loops.received().len(), 2 * (number + 1));
    }
    assert!(relay.deliveries().await.is_empty(), "what was refused does not wait");
    loops.enqueue_replies([Reply::status(401), Reply::json(201, r#"{"success":true,"id":"c1"}"#)]);
    let mended = contact(relay.base(), row_of("ada@example.com")).await;
    assert_answer(&mended, 201, &json!({"success": true, "id": "c1"}));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = loops().await;
    for status in [301, 302, 303, 307, 308] {
        let loops = MockDestination::start(
            Reply::status(status).with_header("Location", &elsewhere.url("/api/v1/contacts/update")),
        )
        .await;
        let relay = relay_to(&loops, &[]).await;
        assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
        assert_eq!(relay.wait_for_state("waiting").await["direction"], "clay-to-loops");
        loops.set_default_reply(Reply::json(200, "{}"));
        relay.wait_for_state("delivered").await;
    }
    assert!(elsewhere.received().is_empty(), "neither a row nor a key goes where nobody sent it");
}

#[tokio::test]
async fn a_source_is_added_to_contacts_and_events_that_carry_none() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[("CONTACT_SOURCE", "Clay")]).await;
    for (number, route) in ROUTES.into_iter().enumerate() {
        for (given, expected) in [("", "Clay"), (r#","source":"mine""#, "mine"), (r#","source":" ""#, "Clay")] {
            let row = format!(r#"{{"email":"ada@example.com","eventName":"{number} {}"{given}}}"#, given.len());
            assert_eq!(send(relay.base(), route, "", &[], row).await.status, 200);
            let got = loops.received();
            let body: Value = serde_json::from_slice(&got.last().unwrap().body).unwrap();
            assert_eq!(body["source"], expected, "{route:?} {given}");
        }
    }
    let queued =
        send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row_of("bob@example.com")).await;
    assert_queued(&queued);
    let last: Value = serde_json::from_str(&bodies(&loops, 7).await[6]).unwrap();
    assert_eq!((&last["source"], &last["email"]), (&json!("Clay"), &json!("bob@example.com")));
}

#[tokio::test]
async fn without_a_contact_source_none_is_added() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[("CONTACT_SOURCE", "")]).await;
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 200);
    assert_eq!(loops.received()[0].text(), r#"{"email":"ada@example.com"}"#);
}

#[tokio::test]
async fn the_key_of_an_event_does_not_depend_on_the_source() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    assert_eq!(event(relay.base(), row_of("ada@example.com")).await.status, 200);
    let api = loops.url("/api");
    let settings = [("LOOPS_API_URL", api.as_str()), ("LOOPS_API_KEY", "loops-key"), ("CONTACT_SOURCE", "Clay")];
    let relay = Relay::start_in(relay.kill().await, &settings).await;
    let again = event(relay.base(), row_of("ada@example.com")).await;
    assert_answer(&again, 200, &json!({"success": true, "duplicate": true}));
}
