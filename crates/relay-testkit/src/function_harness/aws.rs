//! AWS with canned answers: the secrets are filled in, every message is taken, every change of the table is made.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::http_server;
use crate::relay_process::TOKEN;
use crate::webhook::SECRET;

/// The running stand-in.
#[derive(Debug)]
pub(super) struct Aws {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Aws {
    /// Starts it; the secret's Clay webhook is at this far end.
    pub(super) async fn start(far_end: &str) -> Self {
        let webhook = json!({"url": format!("{far_end}/v3/sources/webhook/x"), "auth_token": "example"});
        let route = json!({"name": "contacts", "events": ["contact.created"], "webhooks": [webhook]});
        let secrets = Secrets {
            loops_to_clay: json!({"loops_signing_secrets": [SECRET], "clay_routes": [route]}),
            clay_to_loops: json!({"loops_api_key": "key", "relay_tokens": [TOKEN]}),
        };
        let app = Router::new().fallback(answer).with_state(Arc::new(secrets));
        let (address, server) = http_server::serve(app).await;
        Self { address, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

struct Secrets {
    loops_to_clay: Value,
    clay_to_loops: Value,
}

async fn answer(State(secrets): State<Arc<Secrets>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let (kind, operation) = target.split_once('.').unwrap_or_default();
    let answer = match operation {
        "GetSecretValue" => secret(&secrets, &body),
        "SendMessage" => json!({"MessageId": "d1ae05a7-5b0c-4a6b-9a6a-1c0a5c0b2f11", "SequenceNumber": "1"}),
        "Query" => json!({"Items": [], "Count": 0, "ScannedCount": 0}),
        "UpdateItem" => json!({"Attributes": {}}),
        "GetItem" | "DeleteItem" | "ChangeMessageVisibility" => json!({}),
        // Who only opens a connection says nothing.
        "" => return (StatusCode::OK, [("content-type", "text/plain")], String::new()),
        other => {
            let error = json!({"__type": "UnknownOperation", "message": format!("{other} is not on the stage")});
            return (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.0")], error.to_string());
        }
    };
    let content = if kind == "secretsmanager" { "application/x-amz-json-1.1" } else { "application/x-amz-json-1.0" };
    (StatusCode::OK, [("content-type", content)], answer.to_string())
}

fn secret(secrets: &Secrets, asked: &[u8]) -> Value {
    let asked: Value = serde_json::from_slice(asked).unwrap_or_default();
    let arn = asked["SecretId"].as_str().unwrap_or_default();
    let document = if arn.contains("LoopsToClay") { &secrets.loops_to_clay } else { &secrets.clay_to_loops };
    json!({
        "ARN": arn, "Name": "relay", "SecretString": document.to_string(), "CreatedDate": 1.7954e9,
        "VersionId": "dd6e49bb-1b1d-4ee7-aa39-36873c7d67f2", "VersionStages": ["AWSCURRENT"],
    })
}
