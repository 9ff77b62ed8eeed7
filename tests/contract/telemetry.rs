//! A run with every outcome that a webhook or a row can have, with values that can be found again in any log.

use std::time::Duration;

use relay_testkit::eventually_within;
use relay_testkit::http;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{self, Route};
use relay_testkit::webhook::{self, post};
use serde_json::{Value, json};

use crate::Relay;

/// Values that must not be in a log.
pub(crate) const PRIVATE_VALUES: [(&str, &str); 16] = [
    ("an address", "zoe.quill@private-post.example"),
    ("a first name", "Zoelinde-Quillfeather"),
    ("a user id", "user-7f3a-quill"),
    ("a value of a property", "Obsidian-Plan-42"),
    ("an unknown property", "Mystery-Column-13"),
    ("a mailing list", "list-9x8y7z-gazette"),
    ("a name of a row's event", "Enriched-By-Moonlight"),
    ("an idempotency key", "key-of-quill-0815"),
    ("an option", "option-of-quill"),
    ("the Loops key", "loops-key-5d1c-private"),
    ("the relay's token", relay_testkit::relay_process::RELAY_TOKEN),
    ("a wrong token", "wrong-token-77aa-quill"),
    ("the token for Clay", "clay-token-31bb-private"),
    ("the path of Clay's webhook", "pull-in-data-private-4711"),
    ("the signing secret", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
    ("response text of a destination", "Blocked-Says-The-End"),
];

/// A destination's rejection with personal data.
fn rejection_reply(status: u16) -> Reply {
    let message = format!(
        "{}: {} {}",
        private_value("response text of a destination"),
        private_value("an address"),
        private_value("a first name")
    );
    Reply::json(status, &json!({"success": false, "message": message}).to_string())
}

/// One of the values.
pub(crate) fn private_value(label: &str) -> &'static str {
    PRIVATE_VALUES
        .iter()
        .find(|(name, _)| *name == label)
        .map_or_else(|| panic!("nothing is {label}"), |(_, value)| value)
}

/// A webhook about the contact with this number.
fn webhook_body(number: u32) -> Vec<u8> {
    let email = format!("{number}-{}", private_value("an address"));
    let body = json!({
        "eventName": "contact.created", "contactIdentity": {"email": email, "userId": private_value("a user id")},
        "contact": {"email": email, "firstName": private_value("a first name"), "plan": private_value("a value of a property"),
                    "mailingLists": {private_value("a mailing list"): true}},
    });
    body.to_string().into_bytes()
}

/// A contact's row about the contact with this number.
fn contact_row(number: u32) -> Value {
    json!({
        "email": format!("{number}-{}", private_value("an address")), "userId": private_value("a user id"),
        "firstName": private_value("a first name"), "plan": private_value("a value of a property"),
        "mailingLists": {private_value("a mailing list"): true},
    })
}

/// An event's row about the same.
fn event_row(number: u32) -> Value {
    let mut row = contact_row(number);
    row["eventName"] = format!("{}-{number}", private_value("a name of a row's event")).into();
    row["eventProperties"] = json!({"plan": private_value("a value of a property")});
    row
}

/// A relay between its destinations.
pub(crate) struct ScenarioRun {
    pub(crate) relay: Relay,
    clay: MockDestination,
    loops: MockDestination,
}

/// A relay to which everything has happened.
pub(crate) async fn run_every_outcome(level: &str) -> Relay {
    let run = start_run(level).await;
    run.produce_every_outcome().await;
    run.relay
}

/// A relay to which nothing has happened yet.
pub(crate) async fn start_run(level: &str) -> ScenarioRun {
    let (clay, loops) =
        (MockDestination::start(Reply::json(200, "{}")).await, MockDestination::start(accepted_reply()).await);
    loops.set_properties_reply(Reply::json(200, r#"[{"key":"plan","label":"Plan","type":"string"}]"#));
    let path = format!("/v3/sources/webhook/{}", private_value("the path of Clay's webhook"));
    let pool = format!("{}-a,{}-b", clay.url(&path), clay.url(&path));
    let api = loops.url("/api");
    let settings = [
        ("RUST_LOG", level),
        ("CLAY_WEBHOOK_URL", pool.as_str()),
        ("CLAY_WEBHOOK_AUTH_TOKEN", private_value("the token for Clay")),
        ("CLAY_RATE_PER_SECOND", "1000"),
        ("LOOPS_API_URL", &api),
        ("LOOPS_API_KEY", private_value("the Loops key")),
        ("LOOPS_RATE_PER_SECOND", "1000"),
    ];
    ScenarioRun { relay: Relay::start(&settings).await, clay, loops }
}

impl ScenarioRun {
    pub(crate) async fn produce_every_outcome(&self) {
        let Self { relay, clay, loops } = self;
        send_rejected_webhooks(relay.base()).await;
        send_rejected_rows(relay.base()).await;
        send_rows_on_fast_path(relay, loops).await;
        deliver_to_loops(relay, loops).await;
        deliver_to_clay(relay, clay).await;
    }
}

fn accepted_reply() -> Reply {
    Reply::json(200, &json!({"success": true, "id": private_value("response text of a destination")}).to_string())
}

async fn send_rejected_webhooks(base: &str) {
    let url = format!("{base}/webhooks/loops");
    assert_eq!(webhook::post_at(base, "msg_old", 1, &webhook_body(0)).await.status, 401);
    assert_eq!(http::send("POST", &url, &[], webhook_body(0)).await.status, 400);
    let forged_headers = |id: &'static str, time: &'static str| {
        [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", "v1,Rm9yZ2Vk")]
    };
    assert_eq!(http::send("POST", &url, &forged_headers("msg_forged", "1"), webhook_body(0)).await.status, 401);
    assert_eq!(
        http::send("POST", &url, &forged_headers("msg_malformed", private_value("a user id")), webhook_body(0))
            .await
            .status,
        400
    );
    let without_event_name = json!({"name": private_value("a first name")}).to_string();
    assert_eq!(post(base, "msg_nameless", without_event_name.as_bytes()).await.status, 400);
    let not_json = format!("{{\"eventName\":{}", private_value("a first name"));
    assert_eq!(post(base, "msg_broken", not_json.as_bytes()).await.status, 400);
    let large = |bytes: usize| {
        json!({"eventName": "contact.created", "x": private_value("a first name").repeat(bytes / 20)}).to_string()
    };
    assert_eq!(post(base, "msg_huge", large(300_000).as_bytes()).await.status, 413);
    let post_status = async |id: &str, body: &str| post(base, id, body.as_bytes()).await.json()["status"].clone();
    assert_eq!(post_status("msg_large", &large(120_000)).await, "rejected");
    assert_eq!(post_status("msg_test", r#"{"eventName":"testing.testEvent"}"#).await, "test");
    assert_eq!(post_status("msg_unwanted", r#"{"eventName":"email.opened"}"#).await, "ignored");
}

async fn send_rejected_rows(base: &str) {
    let contact_body = contact_row(0).to_string();
    for token in [None, Some(format!("Bearer {}", private_value("a wrong token")))] {
        let headers: Vec<(&str, &str)> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        assert_eq!(row::send_without_token(base, Route::Contact, "", &headers, contact_body.clone()).await.status, 401);
    }
    let row_with = |field: &str, value: Value| {
        let mut row = contact_row(0);
        row[field] = value;
        row.to_string()
    };
    let broken = format!("{{\"email\":\"{}", private_value("an address"));
    for rejected_body in [
        broken,
        json!([private_value("a first name")]).to_string(),
        json!({"firstName": private_value("a first name")}).to_string(),
        row_with("email", private_value("a first name").into()),
        row_with("subscribed", private_value("a first name").into()),
        row_with("bio", private_value("a first name").repeat(40).into()),
        row_with("email", "/Email".into()),
        row_with("firstName", "{{First Name}}".into()),
        row_with("tags", json!([private_value("a value of a property")])),
        row_with("mailingLists", private_value("a mailing list").into()),
        "x".repeat(300_000),
    ] {
        for route in [Route::Contact, Route::Event] {
            row::send(base, route, "", &[], rejected_body.clone()).await;
        }
    }
    let option = format!("blank={}", private_value("an option"));
    assert_eq!(row::send(base, Route::Contact, &option, &[], contact_body.clone()).await.status, 400);
    let long_key = private_value("an idempotency key").repeat(7);
    assert_eq!(
        row::send(base, Route::Event, "", &[("idempotency-key", &long_key)], event_row(0).to_string()).await.status,
        400
    );
    let unknown_property_row =
        row_with(private_value("an unknown property"), private_value("a value of a property").into());
    row::contact(base, unknown_property_row).await;
    http::send("PUT", &format!("{base}/api/v1/contacts/update?{}=<b> c", private_value("an option")), &[], "{}").await;
}

/// Rows whose callers wait.
async fn send_rows_on_fast_path(relay: &Relay, loops: &MockDestination) {
    let base = relay.base();
    let key = [("idempotency-key", private_value("an idempotency key"))];
    let mut number = 100;
    for status in [200, 409, 400, 404, 422] {
        number += 1;
        loops.enqueue_replies([if status == 200 { accepted_reply() } else { rejection_reply(status) }]);
        row::send(base, Route::Event, "", if status == 200 { &key } else { &[] }, event_row(number).to_string()).await;
    }
    let repeat = row::send(base, Route::Event, "", &key, event_row(101).to_string()).await;
    assert_eq!(repeat.json()["duplicate"], true);
    loops.set_default_reply(rejection_reply(401));
    assert_eq!(row::contact(base, contact_row(110).to_string()).await.status, 502);
    loops.set_default_reply(accepted_reply());
    for failure in
        [rejection_reply(500), Reply::html(502), Reply::Reset, rejection_reply(429).with_header("Retry-After", "1")]
    {
        number += 1;
        loops.enqueue_replies([failure.clone(), failure]);
        let response = row::contact(base, contact_row(number).to_string()).await;
        // A reset of a pooled connection is retried at once. None may remain that would affect the next reply.
        let id = &response.headers["x-relay-delivery-id"];
        wait_for_line(relay, &[("delivery.id", id), ("outcome", "delivered")]).await;
    }
}

/// Queued rows, which workers send.
async fn deliver_to_loops(relay: &Relay, loops: &MockDestination) {
    let respond_async = [("prefer", "respond-async")];
    let mut number = 200;
    for (replies, outcome) in [
        (vec![rejection_reply(422)], "dead"),
        (vec![rejection_reply(409)], "duplicate"),
        (vec![rejection_reply(503).with_header("Retry-After", "1")], "delivered"),
        (vec![rejection_reply(401), rejection_reply(401)], "held"),
    ] {
        number += 1;
        loops.enqueue_replies(replies);
        let response = row::send(relay.base(), Route::Event, "", &respond_async, event_row(number).to_string()).await;
        let id = response.headers["x-relay-delivery-id"].clone();
        wait_for_line(relay, &[("delivery.id", &id), ("outcome", outcome)]).await;
    }
}

async fn deliver_to_clay(relay: &Relay, clay: &MockDestination) {
    let mut number = 300;
    for (replies, outcome) in [
        (vec![], "delivered"),
        (vec![rejection_reply(400)], "dead"),
        (vec![rejection_reply(429).with_header("Retry-After", "1")], "delivered"),
        (vec![rejection_reply(503).with_header("Retry-After", "1")], "delivered"),
        (vec![Reply::Reset], "delivered"),
        (vec![rejection_reply(401), rejection_reply(401)], "held"),
        (vec![rejection_reply(403)], "delivered"),
        (vec![rejection_reply(403)], "held"),
    ] {
        number += 1;
        clay.enqueue_replies(replies);
        let id = format!("msg_{number}");
        let response = post(relay.base(), &id, &webhook_body(number)).await;
        assert_eq!(response.status, 200);
        wait_for_line(relay, &[("webhook.id", &id), ("outcome", outcome)]).await;
    }
    // A repeat, and the same id with another body.
    assert_eq!(post(relay.base(), "msg_301", &webhook_body(301)).await.status, 200);
    assert_eq!(post(relay.base(), "msg_301", &webhook_body(399)).await.status, 200);
    wait_for_line(relay, &[("reason", "id_conflict")]).await;
}

/// The lines of the log so far.
pub(crate) fn log_lines(relay: &Relay) -> Vec<Value> {
    let log = relay.log();
    let parse_line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse_line).collect()
}

/// Waits for a line with these fields.
pub(crate) async fn wait_for_line(relay: &Relay, fields: &[(&str, &str)]) -> Value {
    // A worker may find its destination unavailable, and then waits longer each time.
    eventually_within(Duration::from_secs(60), &format!("a line with {fields:?}"), async || {
        // The last line may not be complete.
        let log = relay.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| fields.iter().all(|(name, value)| line[*name] == *value))
    })
    .await
}
