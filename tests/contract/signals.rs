//! A run in which everything happens that can happen to a webhook or a row, with values that are found again wherever they
//! turn up.

use std::time::Duration;

use relay_testkit::eventually_within;
use relay_testkit::http;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{self, Route};
use relay_testkit::webhook::{self, post};
use serde_json::{Value, json};

use crate::Relay;

/// What nobody may find in a log.
pub(crate) const HIDDEN: [(&str, &str); 16] = [
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
    ("what a far end says", "Blocked-Says-The-End"),
];

/// What a far end says of somebody.
fn told(status: u16) -> Reply {
    let message = format!("{}: {} {}", hidden("what a far end says"), hidden("an address"), hidden("a first name"));
    Reply::json(status, &json!({"success": false, "message": message}).to_string())
}

/// One of the values.
pub(crate) fn hidden(what: &str) -> &'static str {
    HIDDEN.iter().find(|(name, _)| *name == what).map_or_else(|| panic!("nothing is {what}"), |(_, value)| value)
}

/// An event about the person of that number.
fn event(number: u32) -> Vec<u8> {
    let email = format!("{number}-{}", hidden("an address"));
    let body = json!({
        "eventName": "contact.created", "contactIdentity": {"email": email, "userId": hidden("a user id")},
        "contact": {"email": email, "firstName": hidden("a first name"), "plan": hidden("a value of a property"),
                    "mailingLists": {hidden("a mailing list"): true}},
    });
    body.to_string().into_bytes()
}

/// A contact's row about the person of that number.
fn contact_of(number: u32) -> Value {
    json!({
        "email": format!("{number}-{}", hidden("an address")), "userId": hidden("a user id"),
        "firstName": hidden("a first name"), "plan": hidden("a value of a property"),
        "mailingLists": {hidden("a mailing list"): true},
    })
}

/// An event's row about the same.
fn row_of(number: u32) -> Value {
    let mut row = contact_of(number);
    row["eventName"] = format!("{}-{number}", hidden("a name of a row's event")).into();
    row["eventProperties"] = json!({"plan": hidden("a value of a property")});
    row
}

/// A relay between its ends.
pub(crate) struct Run {
    pub(crate) relay: Relay,
    clay: MockDestination,
    loops: MockDestination,
}

/// A relay to which everything has happened.
pub(crate) async fn after_everything(level: &str) -> Relay {
    let run = begin(level).await;
    run.everything().await;
    run.relay
}

/// A relay to which nothing has happened yet.
pub(crate) async fn begin(level: &str) -> Run {
    let (clay, loops) = (MockDestination::start(Reply::json(200, "{}")).await, MockDestination::start(taken()).await);
    loops.set_properties_reply(Reply::json(200, r#"[{"key":"plan","label":"Plan","type":"string"}]"#));
    let path = format!("/v3/sources/webhook/{}", hidden("the path of Clay's webhook"));
    let pool = format!("{}-a,{}-b", clay.url(&path), clay.url(&path));
    let api = loops.url("/api");
    let settings = [
        ("RUST_LOG", level),
        ("CLAY_WEBHOOK_URL", pool.as_str()),
        ("CLAY_WEBHOOK_AUTH_TOKEN", hidden("the token for Clay")),
        ("CLAY_RATE_PER_SECOND", "1000"),
        ("LOOPS_API_URL", &api),
        ("LOOPS_API_KEY", hidden("the Loops key")),
        ("LOOPS_RATE_PER_SECOND", "1000"),
    ];
    Run { relay: Relay::start(&settings).await, clay, loops }
}

impl Run {
    pub(crate) async fn everything(&self) {
        let Self { relay, clay, loops } = self;
        webhooks_are_refused(relay.base()).await;
        rows_are_refused(relay.base()).await;
        loops_answers(relay, loops).await;
        workers_meet_loops(relay, loops).await;
        workers_meet_clay(relay, clay).await;
    }
}

fn taken() -> Reply {
    Reply::json(200, &json!({"success": true, "id": hidden("what a far end says")}).to_string())
}

async fn webhooks_are_refused(base: &str) {
    let url = format!("{base}/webhooks/loops");
    assert_eq!(webhook::post_at(base, "msg_old", 1, &event(0)).await.status, 401);
    assert_eq!(http::send("POST", &url, &[], event(0)).await.status, 400);
    let forged = |id: &'static str, time: &'static str| {
        [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", "v1,Rm9yZ2Vk")]
    };
    assert_eq!(http::send("POST", &url, &forged("msg_forged", "1"), event(0)).await.status, 401);
    assert_eq!(http::send("POST", &url, &forged("msg_malformed", hidden("a user id")), event(0)).await.status, 400);
    let nameless = json!({"name": hidden("a first name")}).to_string();
    assert_eq!(post(base, "msg_nameless", nameless.as_bytes()).await.status, 400);
    let not_json = format!("{{\"eventName\":{}", hidden("a first name"));
    assert_eq!(post(base, "msg_broken", not_json.as_bytes()).await.status, 400);
    let large = |bytes: usize| {
        json!({"eventName": "contact.created", "x": hidden("a first name").repeat(bytes / 20)}).to_string()
    };
    assert_eq!(post(base, "msg_huge", large(300_000).as_bytes()).await.status, 413);
    let status = async |id: &str, body: &str| post(base, id, body.as_bytes()).await.json()["status"].clone();
    assert_eq!(status("msg_large", &large(120_000)).await, "rejected");
    assert_eq!(status("msg_test", r#"{"eventName":"testing.testEvent"}"#).await, "test");
    assert_eq!(status("msg_unwanted", r#"{"eventName":"email.opened"}"#).await, "ignored");
}

async fn rows_are_refused(base: &str) {
    let person = contact_of(0).to_string();
    for token in [None, Some(format!("Bearer {}", hidden("a wrong token")))] {
        let headers: Vec<(&str, &str)> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        assert_eq!(row::send_without_token(base, Route::Contact, "", &headers, person.clone()).await.status, 401);
    }
    let with = |field: &str, value: Value| {
        let mut row = contact_of(0);
        row[field] = value;
        row.to_string()
    };
    let broken = format!("{{\"email\":\"{}", hidden("an address"));
    for refused in [
        broken,
        json!([hidden("a first name")]).to_string(),
        json!({"firstName": hidden("a first name")}).to_string(),
        with("email", hidden("a first name").into()),
        with("subscribed", hidden("a first name").into()),
        with("bio", hidden("a first name").repeat(40).into()),
        with("email", "/Email".into()),
        with("firstName", "{{First Name}}".into()),
        with("tags", json!([hidden("a value of a property")])),
        with("mailingLists", hidden("a mailing list").into()),
        "x".repeat(300_000),
    ] {
        for route in [Route::Contact, Route::Event] {
            row::send(base, route, "", &[], refused.clone()).await;
        }
    }
    let option = format!("blank={}", hidden("an option"));
    assert_eq!(row::send(base, Route::Contact, &option, &[], person.clone()).await.status, 400);
    let long = hidden("an idempotency key").repeat(7);
    assert_eq!(
        row::send(base, Route::Event, "", &[("idempotency-key", &long)], row_of(0).to_string()).await.status,
        400
    );
    let mystery = with(hidden("an unknown property"), hidden("a value of a property").into());
    row::contact(base, mystery).await;
    http::send("PUT", &format!("{base}/api/v1/contacts/update?{}=<b> c", hidden("an option")), &[], "{}").await;
}

/// Loops answers rows whose callers wait.
async fn loops_answers(relay: &Relay, loops: &MockDestination) {
    let base = relay.base();
    let key = [("idempotency-key", hidden("an idempotency key"))];
    let mut number = 100;
    for status in [200, 409, 400, 404, 422] {
        number += 1;
        loops.enqueue_replies([if status == 200 { taken() } else { told(status) }]);
        row::send(base, Route::Event, "", if status == 200 { &key } else { &[] }, row_of(number).to_string()).await;
    }
    let repeat = row::send(base, Route::Event, "", &key, row_of(101).to_string()).await;
    assert_eq!(repeat.json()["duplicate"], true);
    loops.set_default_reply(told(401));
    assert_eq!(row::contact(base, contact_of(110).to_string()).await.status, 502);
    loops.set_default_reply(taken());
    for failure in [told(500), Reply::html(502), Reply::Reset, told(429).with_header("Retry-After", "1")] {
        number += 1;
        loops.enqueue_replies([failure.clone(), failure]);
        let answer = row::contact(base, contact_of(number).to_string()).await;
        // A reset of a pooled connection is tried again at once. Nothing of it may be left that would meet what comes next.
        let id = &answer.headers["x-relay-delivery-id"];
        line_with(relay, &[("delivery.id", id), ("outcome", "delivered")]).await;
    }
}

/// Workers send what was stored.
async fn workers_meet_loops(relay: &Relay, loops: &MockDestination) {
    let stored = [("prefer", "respond-async")];
    let mut number = 200;
    for (replies, outcome) in [
        (vec![told(422)], "dead"),
        (vec![told(409)], "duplicate"),
        (vec![told(503).with_header("Retry-After", "1")], "delivered"),
        (vec![told(401), told(401)], "held"),
    ] {
        number += 1;
        loops.enqueue_replies(replies);
        let answer = row::send(relay.base(), Route::Event, "", &stored, row_of(number).to_string()).await;
        let id = answer.headers["x-relay-delivery-id"].clone();
        line_with(relay, &[("delivery.id", &id), ("outcome", outcome)]).await;
    }
}

async fn workers_meet_clay(relay: &Relay, clay: &MockDestination) {
    let mut number = 300;
    for (replies, outcome) in [
        (vec![], "delivered"),
        (vec![told(400)], "dead"),
        (vec![told(429).with_header("Retry-After", "1")], "delivered"),
        (vec![told(503).with_header("Retry-After", "1")], "delivered"),
        (vec![Reply::Reset], "delivered"),
        (vec![told(401), told(401)], "held"),
        (vec![told(403)], "delivered"),
        (vec![told(403)], "held"),
    ] {
        number += 1;
        clay.enqueue_replies(replies);
        let id = format!("msg_{number}");
        let answer = post(relay.base(), &id, &event(number)).await;
        assert_eq!(answer.status, 200);
        line_with(relay, &[("webhook.id", &id), ("outcome", outcome)]).await;
    }
    // A repeat, and the same id with another body.
    assert_eq!(post(relay.base(), "msg_301", &event(301)).await.status, 200);
    assert_eq!(post(relay.base(), "msg_301", &event(399)).await.status, 200);
    line_with(relay, &[("reason", "id_conflict")]).await;
}

/// The lines of the log so far.
pub(crate) fn lines(relay: &Relay) -> Vec<Value> {
    let log = relay.log();
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(read).collect()
}

/// Waits for a line with these fields.
pub(crate) async fn line_with(relay: &Relay, fields: &[(&str, &str)]) -> Value {
    // A worker may have to leave its end alone, and then waits longer each time.
    eventually_within(Duration::from_secs(60), &format!("a line with {fields:?}"), async || {
        // The last line may not be complete.
        let log = relay.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| fields.iter().all(|(name, value)| line[*name] == *value))
    })
    .await
}
