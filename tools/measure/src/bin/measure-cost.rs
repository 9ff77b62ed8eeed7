//! Measures what a delivery needs of AWS: calls as they are billed, events of the functions, bytes of log and bytes that go out.
//!
//! usage: cost OUTPUT
//!
//! Drives the functions, against emulated services, through a number of each kind of request, one after another, and writes
//! what one of them needs, times that number, as JSON. `make cost-measure` runs it, and makes `docs/cost.md` of it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use relay_testkit::http::Answer;
use relay_testkit::lambda_fake::{Cloud, Setup};
use relay_testkit::mock_destination::{FarEnd, Got, Reply};
use relay_testkit::relay_process::TOKEN;
use relay_testkit::row::{self, Route};
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

/// How many requests of each kind.
const REQUESTS: u64 = 50;
/// What Loops answers, as it is documented.
const TAKEN: &str = r#"{"success":true,"id":"cmb0123456789abcdefghijkl"}"#;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Webhook,
    IgnoredWebhook,
    ForgedWebhook,
    Contact,
    QueuedContact,
    Event,
    QueuedEvent,
    RepeatedEvent,
    RefusedRow,
}

use Kind::{
    Contact, Event, ForgedWebhook, IgnoredWebhook, QueuedContact, QueuedEvent, RefusedRow, RepeatedEvent, Webhook,
};

const KINDS: [Kind; 9] =
    [Webhook, IgnoredWebhook, ForgedWebhook, Contact, QueuedContact, Event, QueuedEvent, RepeatedEvent, RefusedRow];

impl Kind {
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
            RefusedRow => "row_refused",
        }
    }

    /// The queue that it goes through, by its name in the template.
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
            RefusedRow => 400,
            QueuedContact | QueuedEvent => 202,
            _ => 200,
        }
    }
}

/// The ends and what is in between.
struct Measuring {
    cloud: Cloud,
    loops: FarEnd,
    clay: FarEnd,
}

/// What has been used so far.
#[derive(Debug, Clone, Default)]
struct Used {
    events: BTreeMap<String, u64>,
    log_lines: u64,
    log_bytes: u64,
    sent_bytes: u64,
}

const FUNCTIONS: [&str; 5] =
    ["loops-to-clay", "clay-to-loops-contact", "clay-to-loops-event", "clay-delivery", "loops-delivery"];

impl Measuring {
    async fn start() -> Self {
        let (loops, clay) = (FarEnd::start(Reply::json(200, TAKEN)).await, FarEnd::start(Reply::status(200)).await);
        let webhook = json!({"url": clay.url("/v3/sources/webhook/x"), "auth_token": "token"});
        let route = json!({"name": "contacts", "events": ["contact.created"], "webhooks": [webhook]});
        let api = loops.url("/api");
        // Room for everything: waiting for one's turn is not what is counted here.
        let settings = [
            ("LOOPS_API_URL", api.as_str()),
            ("RUST_LOG", "info"),
            ("CLAY_RATE_PER_SECOND", "1000"),
            ("LOOPS_RATE_PER_SECOND", "1000"),
        ];
        let setup = Setup {
            loops_to_clay: Some(json!({"loops_signing_secrets": [webhook::SECRET], "clay_routes": [route]})),
            clay_to_loops: Some(json!({"loops_api_key": "key", "relay_tokens": [TOKEN]})),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Setup::default()
        };
        Self { cloud: Cloud::start(setup).await, loops, clay }
    }

    fn used(&self) -> Used {
        let log = self.cloud.log();
        let of = |got: Vec<Got>| got.iter().map(sent).sum::<u64>();
        Used {
            events: FUNCTIONS.map(|name| (name.to_owned(), self.cloud.function(name).invocations())).into(),
            log_lines: count(log.lines().count()),
            log_bytes: count(log.len()),
            sent_bytes: of(self.loops.got()) + of(self.clay.got()),
        }
    }

    /// Sends one request and waits until nothing of it is left to do.
    async fn send(&self, kind: Kind, number: u64) -> Answer {
        let base = self.cloud.base();
        let email = format!("alex.{}{number}@example.com", kind.name());
        let answer = match kind {
            Webhook => webhook::post(&base, &format!("msg_{number:027}"), &created(&email)).await,
            IgnoredWebhook => {
                let body = String::from_utf8_lossy(&created(&email)).replace("contact.created", "contact.deleted");
                webhook::post(&base, &format!("msg_{number:027}"), body.as_bytes()).await
            }
            ForgedWebhook => webhook::post_at(&base, "msg_forged", 1, &created(&email)).await,
            Contact => row::contact(&base, example("contact", &email)).await,
            RefusedRow => row::contact(&base, example("contact", "[object Object]")).await,
            QueuedContact => queued(&base, Route::Contact, example("contact", &email)).await,
            Event => row::event(&base, example("event-with-properties", &email)).await,
            QueuedEvent => queued(&base, Route::Event, example("event-with-properties", &email)).await,
            RepeatedEvent => {
                let email = format!("alex.{}{}@example.com", Event.name(), number % REQUESTS);
                row::event(&base, example("event-with-properties", &email)).await
            }
        };
        assert_eq!(answer.status, kind.status(), "{kind:?}: {}", answer.text());
        if let Some(queue) = kind.queue() {
            eventually("an empty queue", async || (self.cloud.length(queue).await == 0).then_some(())).await;
        }
        answer
    }

    /// What so many requests of a kind use.
    async fn measure(&self, kind: Kind) -> Value {
        // The first ones start sandboxes, which read secrets.
        for number in 0..3 {
            self.send(kind, 1_000_000 + number).await;
        }
        let before = self.used();
        self.cloud.services().meter().start();
        let mut answered = 0;
        for number in 0..REQUESTS {
            let answer = self.send(kind, number).await;
            answered += count(answer.body.len());
            answered += answer.headers.iter().map(|(name, value)| count(name.len() + value.len() + 4)).sum::<u64>();
        }
        let meter = self.cloud.services().meter();
        let (billed, kept, after) = (meter.read(), meter.kept_bytes(), self.used());
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
            "answer_bytes": answered,
            "kept_bytes": kept,
            "sent_bytes": after.sent_bytes - before.sent_bytes,
        })
    }
}

async fn queued(base: &str, route: Route, row: Vec<u8>) -> Answer {
    row::send(base, route, "", &[("prefer", "respond-async")], row).await
}

/// The `contact.created` of the folder `events`, of that address.
fn created(email: &str) -> Vec<u8> {
    read("loops/contact.created", email)
}

fn example(name: &str, email: &str) -> Vec<u8> {
    read(&format!("clay/{name}"), email)
}

fn read(name: &str, email: &str) -> Vec<u8> {
    let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut event: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    // A contact that is identified in two ways has one place for each.
    for place in ["/email", "/contact/email", "/contactIdentity/email"] {
        if let Some(known) = event.pointer_mut(place) {
            *known = Value::from(email);
        }
    }
    event.to_string().into_bytes()
}

/// The bytes of a request, but for TLS and TCP.
fn sent(got: &Got) -> u64 {
    let headers: usize = got.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    count(got.method.len() + got.path.len() + 12 + headers + got.body.len())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(output), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: cost OUTPUT");
        return ExitCode::from(2);
    };
    let measuring = Measuring::start().await;
    let mut kinds = serde_json::Map::new();
    for kind in KINDS {
        kinds.insert(kind.name().to_owned(), measuring.measure(kind).await);
        eprintln!("{}: done", kind.name());
    }
    let measured = json!({"requests": REQUESTS, "kinds": kinds});
    let text = serde_json::to_string_pretty(&measured).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = std::fs::write(&output, text + "\n") {
        eprintln!("{output} cannot be written: {error}. Give a path in a folder that is there.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
