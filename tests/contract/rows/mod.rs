//! The two routes for rows: who may send one, with which options, and what Loops' room brings back.

mod asynchronous;
mod clay_columns;
mod keys;
mod loops;
mod response;
mod table;
mod typed_properties;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::row::{Route, contact, event, send, send_without_token};
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

use crate::Relay;

/// Both routes.
pub(crate) const ROUTES: [Route; 2] = [Route::Contact, Route::Event];

/// The largest request that is read.
const REQUEST_BYTES: usize = 256 * 1024;

/// A Loops that takes everything.
pub(crate) async fn loops() -> MockDestination {
    MockDestination::start(Reply::json(200, r#"{"success":true}"#)).await
}

/// A relay to that Loops, with these settings besides, and so much room that rows which come one after another find some.
pub(crate) async fn relay_to(loops: &MockDestination, given: &[(&str, &str)]) -> Relay {
    let url = loops.url("/api");
    let mut settings =
        vec![("LOOPS_API_URL", url.as_str()), ("LOOPS_API_KEY", "loops-key"), ("LOOPS_RATE_PER_SECOND", "1000")];
    settings.extend(given);
    Relay::start(&settings).await
}

/// A row that both routes take.
pub(crate) fn row_of(email: &str) -> String {
    json!({"email": email, "eventName": "enriched"}).to_string()
}

/// Checks that the answer is this and nothing else.
#[track_caller]
pub(crate) fn assert_answer(answer: &Response, status: u16, body: &Value) {
    assert_eq!((answer.status, &answer.json()), (status, body));
}

/// Checks that an answer says that the row is stored, and gives the delivery's id.
#[track_caller]
pub(crate) fn assert_queued(answer: &Response) -> String {
    let id = answer.json()["deliveryId"].as_str().unwrap_or_default().to_owned();
    assert!(!id.is_empty(), "{}", answer.text());
    let mut expected = json!({"success": true, "status": "queued", "deliveryId": id});
    if let Some(adjusted) = answer.json().get("adjusted") {
        expected["adjusted"] = adjusted.clone();
    }
    assert_answer(answer, 202, &expected);
    assert_eq!(answer.headers.get("x-relay-delivery-id"), Some(&id));
    id
}

/// The bodies that Loops got, once there are that many.
pub(crate) async fn bodies(loops: &MockDestination, count: usize) -> Vec<String> {
    eventually(&format!("{count} calls at Loops"), async || {
        let got = loops.received();
        (got.len() >= count).then(|| got.iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect())
    })
    .await
}

#[tokio::test]
async fn what_loops_answers_comes_back_with_its_status_and_byte_for_byte() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for (status, body) in [
        (200, r#"{"success":true,"id":"cm4itta800003ow9hhekzk94o"}"#),
        (201, " { \"success\" :true,\r\n\t\"n\":1.0, \"m\":1E5, \"é\":\"\\u00e9\\/\", \"n\":123456789012345678901 }\n"),
        (202, r#"{"success":true,"queued":"by Loops"}"#),
        (200, "[]"),
        (299, "null"),
    ] {
        for route in ROUTES {
            loops.enqueue_replies([Reply::json(status, body)]);
            let row = row_of(&format!("{status}-{}@example.com", body.len()));
            let answer = send(relay.base(), route, "", &[], row).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, body), "{route:?}");
        }
    }
}

#[tokio::test]
async fn loops_gets_its_own_call_with_its_own_key() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 200);
    assert_eq!(event(relay.base(), r#"{"email":"ada@example.com","eventName":"x"}"#).await.status, 200);
    let got = loops.received();
    assert_eq!((got[0].method.as_str(), got[0].path.as_str()), ("PUT", "/api/v1/contacts/update"));
    assert_eq!((got[1].method.as_str(), got[1].path.as_str()), ("POST", "/api/v1/events/send"));
    for call in &got {
        assert_eq!(
            (call.header("authorization"), call.header("content-type")),
            ("Bearer loops-key", "application/json")
        );
        assert!(!format!("{call:?}").contains(RELAY_TOKEN), "the relay's token is not for Loops");
    }
    assert_eq!(got[0].header("idempotency-key"), "");
    assert_ne!(got[1].header("idempotency-key"), "");
}

#[tokio::test]
async fn a_2xx_without_json_is_answered_as_a_plain_success() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let replies = [
        Reply::status(200),
        Reply::Respond(204, Vec::new(), String::new()),
        Reply::html(200),
        Reply::json(201, "{\"success\":tr"),
        Reply::json(200, "{} {}"),
        Reply::TruncatedBody(200),
    ];
    for (number, reply) in replies.into_iter().enumerate() {
        for route in ROUTES {
            loops.enqueue_replies([reply.clone()]);
            let answer = send(relay.base(), route, "", &[], row_of(&format!("n{number}@example.com"))).await;
            assert_answer(&answer, 200, &json!({"success": true}));
        }
    }
}

#[tokio::test]
async fn a_missing_or_wrong_token_is_401_and_nothing_is_sent() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer wrong".to_owned(),
        format!("Bearer {}", &RELAY_TOKEN[..RELAY_TOKEN.len() - 1]),
        format!("Bearer {RELAY_TOKEN}x"),
        format!("Bearer {}", RELAY_TOKEN.to_uppercase()),
        format!("Bearer {RELAY_TOKEN},{RELAY_TOKEN}"),
        format!("Bearer {RELAY_TOKEN} {RELAY_TOKEN}"),
        format!("Basic {RELAY_TOKEN}"),
        format!("Bearer{RELAY_TOKEN}"),
        RELAY_TOKEN.to_owned(),
        "Bearer loops-key".to_owned(),
        format!("Bearer {}", webhook::SIGNING_SECRET),
        "Bearer é".to_owned(),
    ];
    for route in ROUTES {
        for wrong in &wrong {
            let answer =
                send_without_token(relay.base(), route, "", &[("authorization", wrong)], row_of("ada@example.com"))
                    .await;
            answer.assert_error_response(401, "invalid_token", None);
        }
        let none = send_without_token(relay.base(), route, "", &[], row_of("ada@example.com")).await;
        none.assert_error_response(401, "invalid_token", None);
        let elsewhere = [("x-api-key", RELAY_TOKEN)];
        let elsewhere =
            send_without_token(relay.base(), route, &format!("token={RELAY_TOKEN}"), &elsewhere, "{}").await;
        elsewhere.assert_error_response(401, "invalid_token", None);
    }
    assert!(loops.received().is_empty() && relay.deliveries().await.is_empty());
}

#[tokio::test]
async fn each_of_several_tokens_opens_whatever_the_case_of_the_scheme() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[("RELAY_TOKEN", "first-token , second-token,,REPLACE-me")]).await;
    for authorization in ["Bearer first-token", "bearer second-token", "BEARER first-token", "bEaReR second-token"] {
        let headers = [("authorization", authorization)];
        let answer = send_without_token(relay.base(), Route::Contact, "", &headers, row_of("ada@example.com")).await;
        assert_eq!(answer.status, 200, "{authorization}: {}", answer.text());
    }
    for authorization in ["Bearer first-token , second-token", "Bearer REPLACE-me", "Bearer ", "Bearer ,"] {
        let headers = [("authorization", authorization)];
        let answer = send_without_token(relay.base(), Route::Contact, "", &headers, row_of("ada@example.com")).await;
        answer.assert_error_response(401, "invalid_token", None);
    }
}

#[tokio::test]
async fn without_a_token_the_relay_is_closed() {
    for tokens in ["", " , ", "REPLACE-with-a-token"] {
        let loops = loops().await;
        let relay = relay_to(&loops, &[("RELAY_TOKEN", tokens)]).await;
        for authorization in ["Bearer ", "Bearer", "", &format!("Bearer {tokens}")] {
            let headers = [("authorization", authorization)];
            let answer = send_without_token(relay.base(), Route::Event, "", &headers, row_of("ada@example.com")).await;
            answer.assert_error_response(401, "invalid_token", None);
        }
        assert!(loops.received().is_empty());
    }
}

#[tokio::test]
async fn more_than_256_kib_are_400_and_exactly_256_are_read() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for route in ROUTES {
        let mut row = row_of(&format!("{}@example.com", route.method()));
        row.extend(std::iter::repeat_n(' ', REQUEST_BYTES - row.len()));
        assert_eq!(send(relay.base(), route, "", &[], row.clone()).await.status, 200);
        row.push(' ');
        send(relay.base(), route, "", &[], row.clone()).await.assert_error_response(400, "too_large", None);
        send(relay.base(), route, "", &[], row.repeat(8)).await.assert_error_response(400, "too_large", None);
        let unknown = send_without_token(relay.base(), route, "", &[], row).await;
        unknown.assert_error_response(401, "invalid_token", None);
    }
    assert_eq!(loops.received().len(), 2);
}

#[tokio::test]
async fn an_option_with_an_unknown_value_is_400_and_named() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for route in ROUTES {
        for (query, option) in [
            ("blank=", "blank"),
            ("blank", "blank"),
            ("blank=Clear", "blank"),
            ("blank=null", "blank"),
            ("long=cut", "long"),
            ("long=", "long"),
            ("blank=clear&long=true", "long"),
            ("dedupe=on", "dedupe"),
            ("dedupe=", "dedupe"),
            ("dedupe=OFF", "dedupe"),
        ] {
            let answer = send(relay.base(), route, query, &[], row_of("ada@example.com")).await;
            assert_eq!(answer.status, 400, "{query}");
            let code = answer.status_and_code().1;
            answer.assert_error_response(400, &code, Some(option));
            assert!(answer.text().contains(option));
        }
    }
    assert!(loops.received().is_empty());
    for (route, query) in [
        (Route::Contact, "blank=omit&long=reject"),
        (Route::Contact, "blank=clear&long=truncate"),
        (Route::Contact, "utm_source=clay&Blank=x"),
        (Route::Event, "blank=omit&long=truncate&dedupe=off"),
    ] {
        assert_eq!(send(relay.base(), route, query, &[], row_of("ada@example.com")).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn nothing_that_a_request_contains_is_answered_5xx_or_with_what_clay_mistakes() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let brackets = "[".repeat(REQUEST_BYTES);
    let deep = format!("{{\"email\":\"a@example.com\",\"x\":{}1{}}}", "[".repeat(9000), "]".repeat(9000));
    let many: String = (0..20_000).map(|number| format!("\"f{number}\":1,")).collect();
    let many = format!("{{{many}\"email\":\"b@example.com\"}}");
    let bodies: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\xff\xfe{\0}\0",
        b"{\"email\":\"\xff@example.com\"}",
        b"{\"email\":\"\\ud83d@example.com\"}",
        b"{\"email\":1e999999999999,\"userId\":-0}",
        brackets.as_bytes(),
        deep.as_bytes(),
        many.as_bytes(),
    ];
    for route in ROUTES {
        for body in bodies {
            for (name, value) in [
                ("content-type", "text/plain"),
                ("content-encoding", "gzip"),
                ("accept", "text/html"),
                ("prefer", ";;,=,\"respond-async"),
                ("x-forwarded-for", "é, \"'"),
            ] {
                let answer = send(relay.base(), route, "%zz&=&blank=omit&%00", &[(name, value)], body).await;
                assert!(answer.status == 200 || answer.status == 400, "{}: {}", answer.status, answer.text());
            }
        }
    }
    assert_eq!(contact(relay.base(), row_of("ada@example.com")).await.status, 200, "and it still runs");
}
