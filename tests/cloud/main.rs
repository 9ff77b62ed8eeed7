//! The relay as functions, against emulated services, as its template describes them.

#[path = "../stores/mod.rs"]
mod any_store;
#[path = "../contract/mod.rs"]
mod contract;
mod faults;
mod freeze;
mod given_up;
mod held;
mod order;
mod relayctl_dead_letters;
mod relayctl_doctor;
mod relayctl_doctor_secrets;
mod relayctl_operations;
mod relayctl_profile;
mod relayctl_setup;
mod rerouted;
mod routes;
mod secrets;
mod signals;
mod suite;
mod template;
mod workers;

pub(crate) use relay_tests::any_store::aws::Aws as Store;
pub(crate) use relay_tests::cloud::relay::Relay;
use relay_tests::cloud::{Cloud, Setup};
use relay_tests::far_end::FarEnd;
use relay_tests::process::TOKEN;
use relay_tests::webhook::SECRET;
use serde_json::{Value, json};

/// The document with these Clay webhooks.
fn to_clay(webhooks: &[&FarEnd]) -> Value {
    let webhooks: Vec<Value> = webhooks.iter().map(|clay| json!({"url": clay.url("/v3/sources/webhook/x")})).collect();
    let route = json!({"name": "contacts", "events": ["contact.*"], "webhooks": webhooks});
    json!({"loops_signing_secrets": [SECRET], "clay_routes": [route]})
}

/// The document with a key and a token.
fn to_loops() -> Value {
    json!({"loops_api_key": "key", "relay_tokens": [TOKEN]})
}

/// The settings of a stack with this Loops.
fn settings(loops: &FarEnd) -> Vec<(String, String)> {
    let api = loops.url("/api");
    let settings = [
        ("LOOPS_API_URL", api.as_str()),
        ("RUST_LOG", "debug"),
        ("CLAY_RATE_PER_SECOND", "200"),
        ("LOOPS_RATE_PER_SECOND", "200"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A stack between these far ends.
async fn between(loops: &FarEnd, clay: &FarEnd) -> Cloud {
    let (loops_to_clay, clay_to_loops) = (Some(to_clay(&[clay])), Some(to_loops()));
    Cloud::start(Setup { loops_to_clay, clay_to_loops, settings: settings(loops), ..Setup::default() }).await
}
