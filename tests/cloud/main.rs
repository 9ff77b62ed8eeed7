//! The relay as functions, against emulated services, as its template describes them.

mod routes;
mod row_table;
mod workers;

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

/// A stack between these far ends.
async fn between(loops: &FarEnd, clay: &FarEnd) -> Cloud {
    let settings = vec![
        ("LOOPS_API_URL", loops.url("/api")),
        ("RUST_LOG", "debug".to_owned()),
        ("CLAY_RATE_PER_SECOND", "200".to_owned()),
        ("LOOPS_RATE_PER_SECOND", "200".to_owned()),
    ];
    Cloud::start(Setup { loops_to_clay: Some(to_clay(&[clay])), clay_to_loops: Some(to_loops()), settings }).await
}
