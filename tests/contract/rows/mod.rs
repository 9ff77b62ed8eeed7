//! The routes of contacts to update and of events: authorization, options, and the remaining quota of Loops.

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
const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// Starts a Loops that accepts everything.
pub(crate) async fn start_loops() -> MockDestination {
    MockDestination::start(Reply::json(200, r#"{"success":true}"#)).await
}

/// Starts a relay to that Loops, with these additional settings and a rate limit that sequential rows do not reach.
pub(crate) async fn start_relay(loops: &MockDestination, overrides: &[(&str, &str)]) -> Relay {
    let url = loops.url("/api");
    let mut settings =
        vec![("LOOPS_API_URL", url.as_str()), ("LOOPS_API_KEY", "loops-key"), ("LOOPS_RATE_PER_SECOND", "1000")];
    settings.extend(overrides);
    Relay::start(&settings).await
}

/// Returns the row of an event.
pub(crate) fn row_for(email: &str) -> String {
    json!({"email": email, "eventName": "enriched"}).to_string()
}

/// Returns the row of a contact.
pub(crate) fn contact_row(email: &str) -> String {
    json!({"email": email}).to_string()
}

/// Returns a row that this route accepts.
pub(crate) fn row_on(route: Route, email: &str) -> String {
    match route {
        Route::Contact => contact_row(email),
        Route::Event => row_for(email),
    }
}

/// Checks that the response is exactly this.
#[track_caller]
pub(crate) fn assert_response(response: &Response, status: u16, body: &Value) {
    assert_eq!((response.status, &response.json()), (status, body));
}

/// Checks that a response reports a queued row, and returns the delivery id.
#[track_caller]
pub(crate) fn assert_queued(response: &Response) -> String {
    let id = response.json()["deliveryId"].as_str().unwrap_or_default().to_owned();
    assert!(!id.is_empty(), "{}", response.text());
    let mut expected = json!({"success": true, "status": "queued", "deliveryId": id});
    if let Some(adjusted) = response.json().get("adjusted") {
        expected["adjusted"] = adjusted.clone();
    }
    assert_response(response, 202, &expected);
    assert_eq!(response.headers.get("x-relay-delivery-id"), Some(&id));
    id
}

/// The bodies that Loops got, once there are that many.
pub(crate) async fn wait_for_bodies(loops: &MockDestination, count: usize) -> Vec<String> {
    eventually(&format!("{count} calls at Loops"), async || {
        let requests = loops.received();
        (requests.len() >= count)
            .then(|| requests.iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect())
    })
    .await
}

#[tokio::test]
async fn response_of_loops_is_returned_byte_for_byte() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for (status, body) in [
        (200, r#"{"success":true,"id":"cm4itta800003ow9hhekzk94o"}"#),
        (201, " { \"success\" :true,\r\n\t\"n\":1.0, \"m\":1E5, \"é\":\"\\u00e9\\/\", \"n\":123456789012345678901 }\n"),
        (202, r#"{"success":true,"queued":"by Loops"}"#),
        (200, "[]"),
        (299, "null"),
    ] {
        for route in ROUTES {
            loops.enqueue_replies([Reply::json(status, body)]);
            let row = row_on(route, &format!("{status}-{}@example.com", body.len()));
            let response = send(relay.base(), route, "", &[], row).await;
            assert_eq!((response.status, response.text().as_str()), (status, body), "{route:?}");
        }
    }
}

#[tokio::test]
async fn loops_call_uses_its_own_path_and_api_key() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 200);
    assert_eq!(event(relay.base(), r#"{"email":"ada@example.com","eventName":"x"}"#).await.status, 200);
    let requests = loops.received();
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("PUT", "/api/v1/contacts/update"));
    assert_eq!((requests[1].method.as_str(), requests[1].path.as_str()), ("POST", "/api/v1/events/send"));
    for call in &requests {
        assert_eq!(
            (call.header("authorization"), call.header("content-type")),
            ("Bearer loops-key", "application/json")
        );
        assert!(!format!("{call:?}").contains(RELAY_TOKEN), "the relay's token is not for Loops");
    }
    assert_eq!(requests[0].header("idempotency-key"), "");
    assert_ne!(requests[1].header("idempotency-key"), "");
}

#[tokio::test]
async fn success_without_json_becomes_plain_success() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
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
            let response = send(relay.base(), route, "", &[], row_on(route, &format!("n{number}@example.com"))).await;
            assert_response(&response, 200, &json!({"success": true}));
        }
    }
}

#[tokio::test]
async fn missing_or_wrong_token_is_401_and_sends_nothing() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
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
            let response = send_without_token(
                relay.base(),
                route,
                "",
                &[("authorization", wrong)],
                row_on(route, "ada@example.com"),
            )
            .await;
            response.assert_error_response(401, "invalid_token", None);
        }
        let missing = send_without_token(relay.base(), route, "", &[], row_on(route, "ada@example.com")).await;
        missing.assert_error_response(401, "invalid_token", None);
        let misplaced = [("x-api-key", RELAY_TOKEN)];
        let misplaced =
            send_without_token(relay.base(), route, &format!("token={RELAY_TOKEN}"), &misplaced, "{}").await;
        misplaced.assert_error_response(401, "invalid_token", None);
    }
    assert!(loops.received().is_empty() && relay.deliveries().await.is_empty());
}

#[tokio::test]
async fn two_authorization_headers_are_401() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let right = format!("Bearer {RELAY_TOKEN}");
    for other in [right.as_str(), "Bearer wrong"] {
        for headers in [[right.as_str(), other], [other, right.as_str()]] {
            let headers = headers.map(|value| ("authorization", value));
            let row = contact_row("ada@example.com");
            let response = send_without_token(relay.base(), Route::Contact, "", &headers, row).await;
            response.assert_error_response(401, "invalid_token", None);
        }
    }
    assert!(loops.received().is_empty());
}

#[tokio::test]
async fn any_configured_token_works_in_any_scheme_case() {
    let loops = start_loops().await;
    let relay =
        start_relay(&loops, &[("RELAY_TOKEN", "first-token-of-tests , second-token-of-tests,,REPLACE-me")]).await;
    for authorization in [
        "Bearer first-token-of-tests",
        "bearer second-token-of-tests",
        "BEARER first-token-of-tests",
        "bEaReR second-token-of-tests",
    ] {
        let headers = [("authorization", authorization)];
        let response =
            send_without_token(relay.base(), Route::Contact, "", &headers, contact_row("ada@example.com")).await;
        assert_eq!(response.status, 200, "{authorization}: {}", response.text());
    }
    for authorization in
        ["Bearer first-token-of-tests , second-token-of-tests", "Bearer REPLACE-me", "Bearer ", "Bearer ,"]
    {
        let headers = [("authorization", authorization)];
        let response =
            send_without_token(relay.base(), Route::Contact, "", &headers, contact_row("ada@example.com")).await;
        response.assert_error_response(401, "invalid_token", None);
    }
}

#[tokio::test]
async fn requests_are_rejected_without_a_configured_token() {
    for tokens in ["", " , ", "REPLACE-with-a-token"] {
        let loops = start_loops().await;
        let relay = start_relay(&loops, &[("RELAY_TOKEN", tokens)]).await;
        for authorization in ["Bearer ", "Bearer", "", &format!("Bearer {tokens}")] {
            let headers = [("authorization", authorization)];
            let response =
                send_without_token(relay.base(), Route::Event, "", &headers, row_for("ada@example.com")).await;
            response.assert_error_response(401, "invalid_token", None);
            assert!(response.text().contains("missing or wrong"), "no stranger learns that none is set");
        }
        eventually("the reason in the log", async || relay.log().contains("no relay token is set").then_some(())).await;
        assert!(loops.received().is_empty());
    }
}

#[tokio::test]
async fn body_over_256_kib_is_400_and_exactly_256_kib_is_read() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for route in ROUTES {
        let mut row = row_on(route, &format!("{}@example.com", route.method()));
        row.extend(std::iter::repeat_n(' ', MAX_REQUEST_BYTES - row.len()));
        assert_eq!(send(relay.base(), route, "", &[], row.clone()).await.status, 200);
        row.push(' ');
        send(relay.base(), route, "", &[], row.clone()).await.assert_error_response(400, "too_large", None);
        send(relay.base(), route, "", &[], row.repeat(8)).await.assert_error_response(400, "too_large", None);
        let unauthorized = send_without_token(relay.base(), route, "", &[], row).await;
        unauthorized.assert_error_response(401, "invalid_token", None);
    }
    assert_eq!(loops.received().len(), 2);
}

#[tokio::test]
async fn unknown_option_value_is_400_and_named() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
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
            ("blank=clear&blank=omit", "blank"),
            ("long=truncate&long=truncate", "long"),
            ("dedupe=off&dedupe=off", "dedupe"),
            ("Blank=clear", "blank"),
            ("LONG=truncate", "long"),
            ("%20blank=clear", "blank"),
        ] {
            let response = send(relay.base(), route, query, &[], row_on(route, "ada@example.com")).await;
            assert_eq!(response.status, 400, "{query}");
            let code = response.status_and_code().1;
            response.assert_error_response(400, &code, Some(option));
            assert!(response.text().contains(option));
        }
    }
    assert!(loops.received().is_empty());
    for (route, query) in [
        (Route::Contact, "blank=omit&long=reject"),
        (Route::Contact, "blank=clear&long=truncate"),
        (Route::Contact, "utm_source=clay&utm_source=x&blanks=x"),
        (Route::Event, "blank=omit&long=truncate&dedupe=off"),
    ] {
        assert_eq!(
            send(relay.base(), route, query, &[], row_on(route, "ada@example.com")).await.status,
            200,
            "{query}"
        );
    }
}

#[tokio::test]
async fn no_request_content_causes_a_5xx_response() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let brackets = "[".repeat(MAX_REQUEST_BYTES);
    let deep = format!("{{\"email\":\"a@example.com\",\"x\":{}1{}}}", "[".repeat(9000), "]".repeat(9000));
    let many_fields: String = (0..20_000).map(|number| format!("\"f{number}\":1,")).collect();
    let many_fields = format!("{{{many_fields}\"email\":\"b@example.com\"}}");
    let bodies: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\xff\xfe{\0}\0",
        b"{\"email\":\"\xff@example.com\"}",
        b"{\"email\":\"\\ud83d@example.com\"}",
        b"{\"email\":1e999999999999,\"userId\":-0}",
        brackets.as_bytes(),
        deep.as_bytes(),
        many_fields.as_bytes(),
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
                let response = send(relay.base(), route, "%zz&=&blank=omit&%00", &[(name, value)], body).await;
                assert!(response.status == 200 || response.status == 400, "{}: {}", response.status, response.text());
            }
        }
    }
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200, "and it still runs");
}
