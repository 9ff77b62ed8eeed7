//! The relay as functions, against emulated services, as its template describes them.

mod alarms;
mod chaos_smoke;
mod contact_order;
#[path = "../contract/mod.rs"]
mod contract;
mod faults;
mod freeze;
mod held_release;
mod receive_limits;
mod relayctl;
mod reroute;
mod routes;
mod secrets;
#[path = "../store_contract/mod.rs"]
mod store_contract;
mod telemetry;
mod template;
mod workers;

pub(crate) use relay_testkit::lambda_fake::relay::Relay;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::MockDestination;
use relay_testkit::relay_process::RELAY_TOKEN;
pub(crate) use relay_testkit::store_harness::aws::AwsHarness as Store;
use relay_testkit::webhook::SIGNING_SECRET;
use serde_json::{Value, json};

/// The document with these Clay webhooks.
fn loops_to_clay_document(webhooks: &[&MockDestination]) -> Value {
    let webhooks: Vec<Value> = webhooks.iter().map(|clay| json!({"url": clay.url("/v3/sources/webhook/x")})).collect();
    let route = json!({"name": "contacts", "events": ["contact.*"], "webhooks": webhooks});
    json!({"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]})
}

/// The document with a key and a token.
fn clay_to_loops_document() -> Value {
    json!({"loops_api_key": "key", "relay_tokens": [RELAY_TOKEN]})
}

/// The settings of a stack with this Loops.
fn settings(loops: &MockDestination) -> Vec<(String, String)> {
    let api = loops.url("/api");
    let settings = [
        ("LOOPS_API_URL", api.as_str()),
        ("RUST_LOG", "debug"),
        ("CLAY_RATE_PER_SECOND", "200"),
        ("LOOPS_RATE_PER_SECOND", "200"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Starts a stack between these destinations.
async fn start_stack(loops: &MockDestination, clay: &MockDestination) -> FakeStack {
    let (loops_to_clay, clay_to_loops) = (Some(loops_to_clay_document(&[clay])), Some(clay_to_loops_document()));
    FakeStack::start(Setup { loops_to_clay, clay_to_loops, settings: settings(loops), ..Setup::default() }).await
}
