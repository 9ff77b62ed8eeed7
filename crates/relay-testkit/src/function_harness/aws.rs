//! AWS with canned responses: the secrets are filled in, every message and every change of the table succeeds.

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
use crate::relay_process::RELAY_TOKEN;
use crate::webhook::SIGNING_SECRET;

/// The running stand-in.
#[derive(Debug)]
pub(super) struct CannedAws {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for CannedAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl CannedAws {
    /// Starts it; the secret's Clay webhook is at this destination.
    pub(super) async fn start(destination_url: &str) -> Self {
        let webhook = json!({"url": format!("{destination_url}/v3/sources/webhook/x"), "auth_token": "example"});
        let route = json!({"name": "contacts", "events": ["contact.created"], "webhooks": [webhook]});
        let secrets = Secrets {
            loops_to_clay: json!({"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]}),
            clay_to_loops: json!({"loops_api_key": "key", "relay_tokens": [RELAY_TOKEN]}),
        };
        let app = Router::new().fallback(respond).with_state(Arc::new(secrets));
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

async fn respond(State(secrets): State<Arc<Secrets>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let (service, operation) = target.split_once('.').unwrap_or_default();
    let response = match operation {
        "GetSecretValue" => secret(&secrets, &body),
        "SendMessage" => json!({"MessageId": "d1ae05a7-5b0c-4a6b-9a6a-1c0a5c0b2f11", "SequenceNumber": "1"}),
        "UpdateItem" => json!({"Attributes": {}}),
        "GetItem" | "DeleteItem" | "ChangeMessageVisibility" => json!({}),
        // A connection that was only opened.
        "" => return (StatusCode::OK, [("content-type", "text/plain")], String::new()),
        other => {
            let error = json!({"__type": "UnknownOperation", "message": format!("{other} is not on the stage")});
            return (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.0")], error.to_string());
        }
    };
    let content_type =
        if service == "secretsmanager" { "application/x-amz-json-1.1" } else { "application/x-amz-json-1.0" };
    (StatusCode::OK, [("content-type", content_type)], response.to_string())
}

fn secret(secrets: &Secrets, request: &[u8]) -> Value {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let arn = request["SecretId"].as_str().unwrap_or_default();
    let document = if arn.contains("LoopsToClay") { &secrets.loops_to_clay } else { &secrets.clay_to_loops };
    json!({
        "ARN": arn, "Name": "relay", "SecretString": document.to_string(), "CreatedDate": 1.7954e9,
        "VersionId": "dd6e49bb-1b1d-4ee7-aa39-36873c7d67f2", "VersionStages": ["AWSCURRENT"],
    })
}
