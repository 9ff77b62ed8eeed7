//! Measures what a delivery needs of AWS: calls as they are billed, events of the functions, bytes of log and bytes
//! that go out.
//!
//! usage: cost OUTPUT
//!
//! Drives the functions, against emulated services, through a number of each kind of request, one after another, and
//! writes what one of them needs, times that number, as JSON. `make cost-measure` runs it, and makes `docs/cost.md` of
//! it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;

use relay_aws::functions::FUNCTION_NAMES;
use relay_testkit::http::Response;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::row::{self, Route};
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

/// How many requests of each kind.
const REQUESTS: u64 = 50;
/// Messages of a full batch (the template's `BatchSize`).
const BATCH_SIZE: u64 = 10;
/// Response of Loops, as documented.
const ACCEPTED_BODY: &str = r#"{"success":true,"id":"cmb0123456789abcdefghijkl"}"#;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    Webhook,
    IgnoredWebhook,
    ForgedWebhook,
    Contact,
    QueuedContact,
    Event,
    QueuedEvent,
    RepeatedEvent,
    RejectedRow,
}

use RequestKind::{
    Contact, Event, ForgedWebhook, IgnoredWebhook, QueuedContact, QueuedEvent, RejectedRow, RepeatedEvent, Webhook,
};

const KINDS: [RequestKind; 9] =
    [Webhook, IgnoredWebhook, ForgedWebhook, Contact, QueuedContact, Event, QueuedEvent, RepeatedEvent, RejectedRow];

impl RequestKind {
    const fn name(self) -> &'static str {
        match self {
            Webhook => "webhook",
            IgnoredWebhook => "webhook_ignored",
            ForgedWebhook => "webhook_forged",
            Contact => "contact",
            QueuedContact => "contact_queued",
            Event => "event",
            QueuedEvent => "event_queued",
            RepeatedEvent => "event_repeated",
            RejectedRow => "row_refused",
        }
    }

    /// Returns the logical id of the queue that it passes.
    const fn queue(self) -> Option<&'static str> {
        match self {
            Webhook => Some("ClayQueue"),
            QueuedContact | QueuedEvent => Some("LoopsQueue"),
            _ => None,
        }
    }

    const fn status(self) -> u16 {
        match self {
            ForgedWebhook => 401,
            RejectedRow => 400,
            QueuedContact | QueuedEvent => 202,
            _ => 200,
        }
    }
}

/// The stack between its destinations.
struct CostHarness {
    fake_stack: FakeStack,
    loops: MockDestination,
    clay: MockDestination,
}

/// What has been used so far.
#[derive(Debug, Clone, Default)]
struct Usage {
    events: BTreeMap<String, u64>,
    log_lines: u64,
    log_bytes: u64,
    sent_bytes: u64,
}

impl CostHarness {
    async fn start() -> Self {
        let (loops, clay) = (
            MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await,
            MockDestination::start(Reply::status(200)).await,
        );
        let webhook = json!({"url": clay.url("/v3/sources/webhook/x"), "auth_token": "token"});
        let route = json!({"name": "contacts", "events": ["contact.created"], "webhooks": [webhook]});
        let api = loops.url("/api");
        // A rate that is never reached: waiting for a permit is not measured here.
        let settings = [
            ("LOOPS_API_URL", api.as_str()),
            ("RUST_LOG", "info"),
            ("CLAY_RATE_PER_SECOND", "1000"),
            ("LOOPS_RATE_PER_SECOND", "1000"),
        ];
        let setup = Setup {
            loops_to_clay: Some(json!({"loops_signing_secrets": [webhook::SIGNING_SECRET], "clay_routes": [route]})),
            clay_to_loops: Some(json!({"loops_api_key": "key", "relay_tokens": [RELAY_TOKEN]})),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Setup::default()
        };
        Self { fake_stack: FakeStack::start(setup).await, loops, clay }
    }

    fn usage(&self) -> Usage {
        let log = self.fake_stack.log();
        let total_bytes = |requests: Vec<ReceivedRequest>| requests.iter().map(request_bytes).sum::<u64>();
        Usage {
            events: FUNCTION_NAMES.map(|name| (name.to_owned(), self.fake_stack.function(name).invocations())).into(),
            log_lines: to_u64(log.lines().count()),
            log_bytes: to_u64(log.len()),
            sent_bytes: total_bytes(self.loops.received()) + total_bytes(self.clay.received()),
        }
    }

    /// Sends these requests and waits until nothing of them is left to do. A worker gets them as one batch.
    async fn send_all(&self, kind: RequestKind, numbers: Range<u64>) -> Vec<Response> {
        let paused = self.fake_stack.pause_polling().await;
        let mut responses = Vec::new();
        for number in numbers {
            responses.push(self.send(kind, number).await);
        }
        drop(paused);
        if let Some(queue) = kind.queue() {
            eventually("an empty queue", async || (self.fake_stack.queue_length(queue).await == 0).then_some(())).await;
        }
        responses
    }

    async fn send(&self, kind: RequestKind, number: u64) -> Response {
        let base = self.fake_stack.base();
        let email = format!("alex.{}{number}@example.com", kind.name());
        let response = match kind {
            Webhook => webhook::post(&base, &format!("msg_{number:027}"), &contact_created(&email)).await,
            IgnoredWebhook => {
                let body =
                    String::from_utf8_lossy(&contact_created(&email)).replace("contact.created", "contact.deleted");
                webhook::post(&base, &format!("msg_{number:027}"), body.as_bytes()).await
            }
            ForgedWebhook => webhook::post_at(&base, "msg_forged", 1, &contact_created(&email)).await,
            Contact => row::contact(&base, example("contact", &email)).await,
            RejectedRow => row::contact(&base, example("contact", "[object Object]")).await,
            QueuedContact => send_async(&base, Route::Contact, example("contact", &email)).await,
            Event => row::event(&base, example("event-with-properties", &email)).await,
            QueuedEvent => send_async(&base, Route::Event, example("event-with-properties", &email)).await,
            RepeatedEvent => {
                let email = format!("alex.{}{}@example.com", Event.name(), number % REQUESTS);
                row::event(&base, example("event-with-properties", &email)).await
            }
        };
        assert_eq!(response.status, kind.status(), "{kind:?}: {}", response.text());
        response
    }

    /// What so many requests of a kind use, if so many of them are a batch. They have the numbers from `first` on.
    async fn measure(&self, kind: RequestKind, batch_size: u64, first: u64) -> Value {
        // The first ones start sandboxes, which read secrets.
        for number in 0..3 {
            let number = 1_000_000 + first + number;
            self.send_all(kind, number..number + 1).await;
        }
        let before = self.usage();
        self.fake_stack.services().meter().start();
        let mut response_bytes = 0;
        for batch in 0..REQUESTS / batch_size {
            let number = first + batch * batch_size;
            for response in self.send_all(kind, number..number + batch_size).await {
                response_bytes += to_u64(response.body.len());
                response_bytes +=
                    response.headers.iter().map(|(name, value)| to_u64(name.len() + value.len() + 4)).sum::<u64>();
            }
        }
        let meter = self.fake_stack.services().meter();
        let (billed, stored_bytes, after) = (meter.totals(), meter.stored_bytes(), self.usage());
        let events = after.events.iter().map(|(name, all)| (name.clone(), all - before.events[name]));
        let events: BTreeMap<String, u64> = events.filter(|(_, events)| *events > 0).collect();
        let calls = billed.iter().map(|((function, action), billed)| {
            json!({"function": function, "action": action, "calls": billed.calls, "half_units": billed.half_units})
        });
        json!({
            "events": events,
            "calls": calls.collect::<Vec<_>>(),
            "log_lines": after.log_lines - before.log_lines,
            "log_bytes": after.log_bytes - before.log_bytes,
            "response_bytes": response_bytes,
            "stored_bytes": stored_bytes,
            "sent_bytes": after.sent_bytes - before.sent_bytes,
        })
    }
}

async fn send_async(base: &str, route: Route, row: Vec<u8>) -> Response {
    row::send(base, route, "", &[("prefer", "respond-async")], row).await
}

/// The `contact.created` of the folder `events`, of that address.
fn contact_created(email: &str) -> Vec<u8> {
    load_event("loops/contact.created", email)
}

fn example(name: &str, email: &str) -> Vec<u8> {
    load_event(&format!("clay/{name}"), email)
}

fn load_event(name: &str, email: &str) -> Vec<u8> {
    let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut event: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    // A contact that is identified in two ways has a position for each.
    for pointer in ["/email", "/contact/email", "/contactIdentity/email"] {
        if let Some(value) = event.pointer_mut(pointer) {
            *value = Value::from(email);
        }
    }
    event.to_string().into_bytes()
}

/// The bytes of a request, but for TLS and TCP.
fn request_bytes(request: &ReceivedRequest) -> u64 {
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    to_u64(request.method.len() + request.path.len() + 12 + headers + request.body.len())
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(output), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: cost OUTPUT");
        return ExitCode::from(2);
    };
    let harness = CostHarness::start().await;
    let (mut kinds, mut batches) = (serde_json::Map::new(), serde_json::Map::new());
    for kind in KINDS {
        kinds.insert(kind.name().to_owned(), harness.measure(kind, 1, 0).await);
        if kind.queue().is_some() {
            batches.insert(kind.name().to_owned(), harness.measure(kind, BATCH_SIZE, REQUESTS).await);
        }
        eprintln!("{}: done", kind.name());
    }
    let measured = json!({"requests": REQUESTS, "kinds": kinds, "batches": batches});
    let text = serde_json::to_string_pretty(&measured).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = std::fs::write(&output, text + "\n") {
        eprintln!("{output} cannot be written: {error}. Give a path in a folder that is there.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
