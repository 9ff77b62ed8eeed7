//! Rejections by Loops, and their message in a Clay cell.

use relay_testkit::MAX_MESSAGE_CHARS;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, contact, event, send};
use serde_json::{Value, json};

use super::{
    ROUTES, assert_queued, assert_response, contact_row, row_for, row_on, start_loops, start_relay, wait_for_bodies,
};
use crate::Relay;

fn rejection_body(message: &str) -> String {
    json!({"success": false, "message": message}).to_string()
}

#[tokio::test]
async fn rejection_by_loops_returns_its_message_and_a_final_status() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
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
            loops.enqueue_replies([Reply::json(status, &rejection_body(&format!("Loops says {status}.")))]);
            let response = send(relay.base(), route, "", &[], row_on(route, &format!("n{status}@example.com"))).await;
            response.assert_error_response(expected, "loops_rejected", None);
            assert_eq!(response.json()["message"], format!("Loops says {status}."));
        }
    }
    assert_eq!(loops.received().len(), 29, "each was called once");
    assert!(relay.deliveries().await.is_empty(), "what was refused does not wait");
}

#[tokio::test]
async fn long_message_of_loops_is_cut_to_300_chars() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let exact = "é".repeat(MAX_MESSAGE_CHARS);
    loops.enqueue_replies([Reply::json(400, &rejection_body(&exact))]);
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.json()["message"], exact);

    loops.enqueue_replies([Reply::json(422, &rejection_body(&"é".repeat(5000)))]);
    let response = contact(relay.base(), contact_row("ada@example.com")).await;
    response.assert_error_response(422, "loops_rejected", None);
    let message = response.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
    assert!(message.starts_with(&"é".repeat(MAX_MESSAGE_CHARS - 1)));
}

#[tokio::test]
async fn rejection_without_message_gets_a_default_message() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
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
        let response = event(relay.base(), row_for(&format!("n{number}@example.com"))).await;
        response.assert_error_response(if number == 0 { 404 } else { 400 }, "loops_rejected", None);
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(!message.contains('<') && message.split(' ').count() > 5 && message.ends_with('.'), "{message}");
    }
}

#[tokio::test]
async fn older_error_format_of_loops_is_parsed() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for body in [
        r#"{"success":false,"error":"It is blocked."}"#,
        r#"{"success":false,"error":{"path":"email","message":"It is blocked."}}"#,
        r#"{"success":false,"message":"It is blocked.","error":"other"}"#,
    ] {
        loops.enqueue_replies([Reply::json(400, body)]);
        assert_eq!(
            contact(relay.base(), contact_row("ada@example.com")).await.json()["message"],
            "It is blocked.",
            "{body}"
        );
    }
}

#[tokio::test]
async fn row_without_a_loops_key_is_502_and_names_the_secret() {
    for key in ["", " ", "REPLACE-with-your-key"] {
        let loops = start_loops().await;
        let relay = start_relay(&loops, &[("LOOPS_API_KEY", key)]).await;
        for route in ROUTES {
            for headers in [&[][..], &[("prefer", "respond-async")]] {
                let response = send(relay.base(), route, "", headers, row_on(route, "ada@example.com")).await;
                response.assert_error_response(502, "not_configured", None);
                assert!(response.text().contains(Relay::LOOPS_API_KEY), "{}", response.text());
            }
        }
        assert!(loops.received().is_empty() && relay.deliveries().await.is_empty());
    }
}

#[tokio::test]
async fn unauthorized_loops_key_is_retried_once_and_named() {
    let loops = MockDestination::start(Reply::json(401, r#"{"success":false,"message":"Invalid API key"}"#)).await;
    let relay = start_relay(&loops, &[]).await;
    for (number, route) in ROUTES.into_iter().enumerate() {
        let response = send(relay.base(), route, "", &[], row_on(route, "ada@example.com")).await;
        response.assert_error_response(502, "loops_key_rejected", None);
        assert!(response.text().contains(Relay::LOOPS_API_KEY), "{}", response.text());
        assert_eq!(loops.received().len(), 2 * (number + 1));
    }
    assert!(relay.deliveries().await.is_empty(), "what was refused does not wait");
    loops.enqueue_replies([Reply::status(401), Reply::json(201, r#"{"success":true,"id":"c1"}"#)]);
    let accepted = contact(relay.base(), contact_row("ada@example.com")).await;
    assert_response(&accepted, 201, &json!({"success": true, "id": "c1"}));
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let redirect_target = start_loops().await;
    for status in [301, 302, 303, 307, 308] {
        let loops = MockDestination::start(
            Reply::status(status).with_header("Location", &redirect_target.url("/api/v1/contacts/update")),
        )
        .await;
        let relay = start_relay(&loops, &[]).await;
        assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
        assert_eq!(relay.wait_for_state("waiting").await["direction"], "clay-to-loops");
        loops.set_default_reply(Reply::json(200, "{}"));
        relay.wait_for_state("delivered").await;
    }
    assert!(redirect_target.received().is_empty(), "neither a row nor a key goes where nobody sent it");
}

#[tokio::test]
async fn contact_source_is_added_where_none_is_set() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[("CONTACT_SOURCE", "Clay")]).await;
    for (number, route) in ROUTES.into_iter().enumerate() {
        for (query, source_field, expected) in [
            ("", "", "Clay"),
            ("", r#","source":"mine""#, "mine"),
            ("", r#","source":" ""#, "Clay"),
            ("blank=clear", r#","source":"""#, "Clay"),
        ] {
            let name = format!(r#","eventName":"{number} {}""#, source_field.len());
            let name = if route == Route::Event { name.as_str() } else { "" };
            let row = format!(r#"{{"email":"ada@example.com"{name}{source_field}}}"#);
            assert_eq!(send(relay.base(), route, query, &[], row).await.status, 200);
            let requests = loops.received();
            let body: Value = serde_json::from_slice(&requests.last().unwrap().body).unwrap();
            assert_eq!(body["source"], expected, "{route:?} {source_field}");
        }
    }
    let queued =
        send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], contact_row("bob@example.com")).await;
    assert_queued(&queued);
    let last: Value = serde_json::from_str(&wait_for_bodies(&loops, 9).await[8]).unwrap();
    assert_eq!((&last["source"], &last["email"]), (&json!("Clay"), &json!("bob@example.com")));
}

#[tokio::test]
async fn no_source_is_added_without_a_contact_source() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[("CONTACT_SOURCE", "")]).await;
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 200);
    assert_eq!(loops.received()[0].text(), r#"{"email":"ada@example.com"}"#);
}

#[tokio::test]
async fn event_key_does_not_depend_on_the_source() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    assert_eq!(event(relay.base(), row_for("ada@example.com")).await.status, 200);
    let api = loops.url("/api");
    let settings = [("LOOPS_API_URL", api.as_str()), ("LOOPS_API_KEY", "loops-key"), ("CONTACT_SOURCE", "Clay")];
    let relay = Relay::start_in(relay.kill().await, &settings).await;
    let repeat = event(relay.base(), row_for("ada@example.com")).await;
    assert_response(&repeat, 200, &json!({"success": true, "duplicate": true}));
}
