//! The fake AWS behind a socket, for functions that run as processes, with filled-in secrets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use relay::ports::clock::SystemClock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::aws_fake::FakeServices;
use crate::http_server;
use crate::relay_process::RELAY_TOKEN;
use crate::webhook::SIGNING_SECRET;

/// The running server.
#[derive(Debug)]
pub(super) struct AwsServer {
    address: SocketAddr,
    server: JoinHandle<()>,
    services: FakeServices,
    connections: Arc<AtomicU64>,
    secret_reads: Arc<AtomicU64>,
}

impl Drop for AwsServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl AwsServer {
    /// Starts it; the secret's Clay webhook is at this destination.
    pub(super) async fn start(destination_url: &str) -> Self {
        let webhook = json!({"url": format!("{destination_url}/v3/sources/webhook/x"), "auth_token": "example"});
        let route = json!({"name": "contacts", "events": ["contact.created"], "webhooks": [webhook]});
        let aws = Aws {
            services: FakeServices::new(Arc::default(), Arc::new(SystemClock)).without_latency(),
            loops_to_clay: json!({"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]}),
            clay_to_loops: json!({"loops_api_key": "key", "relay_tokens": [RELAY_TOKEN]}),
            secret_reads: Arc::default(),
        };
        let (services, secret_reads) = (aws.services.clone(), Arc::clone(&aws.secret_reads));
        let connections = Arc::default();
        let app = Router::new().fallback(respond).with_state(Arc::new(aws));
        let (address, server) = http_server::serve_counting(app, Arc::clone(&connections)).await;
        Self { address, server, services, connections, secret_reads }
    }

    /// How many connections it has accepted.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// How often a secret was read.
    pub(super) fn secret_reads(&self) -> u64 {
        self.secret_reads.load(Ordering::Relaxed)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Deletes the records of deliveries, so that the same event can be sent again.
    pub(super) fn forget_deliveries(&self) {
        self.services.state().table.delete_with_prefix("delivery#");
    }
}

struct Aws {
    services: FakeServices,
    loops_to_clay: Value,
    clay_to_loops: Value,
    secret_reads: Arc<AtomicU64>,
}

async fn respond(State(aws): State<Arc<Aws>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let (status, content_type, response) = match target {
        // A connection that was only opened.
        "" => (200, "text/plain", Box::default()),
        "secretsmanager.GetSecretValue" => (200, "application/x-amz-json-1.1", aws.secret(&body)),
        _ => {
            let (status, response) = aws.services.handle_call(target, &body).await;
            (status, "application/x-amz-json-1.0", response)
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", content_type)], Vec::from(response))
}

impl Aws {
    fn secret(&self, request: &[u8]) -> Box<[u8]> {
        self.secret_reads.fetch_add(1, Ordering::Relaxed);
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let arn = request["SecretId"].as_str().unwrap_or_default();
        let document = if arn.contains("LoopsToClay") { &self.loops_to_clay } else { &self.clay_to_loops };
        let response = json!({
            "ARN": arn, "Name": "relay", "SecretString": document.to_string(), "CreatedDate": 1.7954e9,
            "VersionId": "dd6e49bb-1b1d-4ee7-aa39-36873c7d67f2", "VersionStages": ["AWSCURRENT"],
        });
        response.to_string().into_bytes().into_boxed_slice()
    }
}
