//! AWS as `relayctl` sees it: the emulator, except for calls that the operator lacks permission for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode};
use relay::destination::http_client::HttpClient;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::http_server;

/// The largest call.
const MAX_CALL_BYTES: usize = 2 * 1024 * 1024;

/// The guard.
#[derive(Debug)]
pub struct PermissionProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    emulator: String,
    client: HttpClient,
    /// Actions that are refused, with which code, and after how many calls that are not.
    denied: Mutex<BTreeMap<String, (String, usize)>>,
    calls: Mutex<Vec<String>>,
    /// Secret value of a concurrent writer, and whether it is written after the next write of `relayctl`.
    concurrent_write: Mutex<Option<(String, bool)>>,
    /// The access keys that calls were signed with.
    signers: Mutex<BTreeSet<String>>,
}

impl Drop for PermissionProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl PermissionProxy {
    /// A guard before the emulator.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(emulator: String) -> Self {
        let client = relay::destination::http_client::build().unwrap_or_else(|error| panic!("{error}"));
        let (denied, calls, signers) = (Mutex::default(), Mutex::default(), Mutex::default());
        let concurrent_write = Mutex::default();
        let shared = Arc::new(Shared { emulator, client, denied, calls, concurrent_write, signers });
        let app = axum::Router::new().fallback(handle_call).with_state(Arc::clone(&shared));
        let (address, server) = http_server::serve(app).await;
        Self { address, shared, server }
    }

    /// Its address, as `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, an action (`PutSecretValue`) is refused with this code.
    pub fn deny(&self, action: &str, code: &str) {
        self.deny_after(action, code, 0);
    }

    /// From now on, an action is refused with this code, but for its first calls.
    pub fn deny_after(&self, action: &str, code: &str, allowed_calls: usize) {
        let mut denied = self.shared.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.insert(action.to_owned(), (code.to_owned(), allowed_calls));
    }

    /// Everything is allowed again.
    pub fn allow_all(&self) {
        self.shared.denied.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Lets a concurrent writer put this value just before or just after the next write of a secret.
    pub fn write_concurrently(&self, text: &str, after: bool) {
        let mut concurrent_write = self.shared.concurrent_write.lock().unwrap_or_else(PoisonError::into_inner);
        *concurrent_write = Some((text.to_owned(), after));
    }

    /// The actions so far.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The access keys that signed the calls since this was asked last.
    #[must_use]
    pub fn take_signers(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.shared.signers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn denial_code(&self, action: &str) -> Option<String> {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, allowed) = denied.get_mut(action)?;
        if *allowed > 0 {
            *allowed -= 1;
            return None;
        }
        Some(code.clone())
    }

    fn take_concurrent_write(&self) -> Option<(String, bool)> {
        self.concurrent_write.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the emulator's response to a call with this body.
    async fn send(&self, parts: &Parts, body: Bytes, is_query_protocol: bool) -> Response<Body> {
        let mut call = self.client.request(parts.method.clone(), &format!("{}{}", self.emulator, parts.uri)).body(body);
        let headers = |headers: &HeaderMap, without: &[&str]| {
            let forwarded = headers.iter().filter(|(name, _)| !without.contains(&name.as_str()));
            forwarded.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        for (name, value) in headers(&parts.headers, &["host", "content-length"]) {
            call = call.header(name, value);
        }
        let Ok(emulator_response) = call.send().await else { return error_response("NoEmulator", is_query_protocol) };
        let mut response = Response::builder().status(emulator_response.status());
        for (name, value) in
            headers(emulator_response.headers(), &["content-length", "transfer-encoding", "connection"])
        {
            response = response.header(name, value);
        }
        response
            .body(Body::from(emulator_response.bytes().await.unwrap_or_default()))
            .unwrap_or_else(|_| error_response("NoAnswer", is_query_protocol))
    }
}

async fn handle_call(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_CALL_BYTES).await.unwrap_or_default();
    let (action, is_query_protocol) = action_of(&parts.method, parts.uri.path(), &parts.headers, &body);
    shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(action.clone());
    shared.signers.lock().unwrap_or_else(PoisonError::into_inner).extend(access_key_of(&parts.headers));
    if let Some(code) = shared.denial_code(&action) {
        return error_response(&code, is_query_protocol);
    }
    let concurrent_write = if action == "PutSecretValue" { shared.take_concurrent_write() } else { None };
    let (first, second) = match concurrent_write {
        Some((text, after)) if after => (body.clone(), Some(with_secret_string(&body, &text))),
        Some((text, _)) => (with_secret_string(&body, &text), Some(body)),
        None => (body, None),
    };
    let response = shared.send(&parts, first, is_query_protocol).await;
    match second {
        // Either response has the name and a version.
        Some(second) => shared.send(&parts, second, is_query_protocol).await,
        None => response,
    }
}

/// The same write with another text, as a version of its own.
fn with_secret_string(body: &Bytes, text: &str) -> Bytes {
    let mut write: Value = serde_json::from_slice(body).unwrap_or_default();
    write["SecretString"] = text.into();
    let version: String = write["ClientRequestToken"].as_str().unwrap_or_default().chars().rev().collect();
    write["ClientRequestToken"] = version.into();
    write.to_string().into()
}

/// Returns the access key in a signature (Signature Version 4: `Credential=KEY/DATE/…`).
fn access_key_of(headers: &HeaderMap) -> Option<String> {
    let (_, credential) = headers.get("authorization")?.to_str().ok()?.split_once("Credential=")?;
    credential.split('/').next().map(str::to_owned)
}

/// What a call asks for, by the protocol that its service speaks, and whether that is the one with forms and XML.
fn action_of(method: &axum::http::Method, path: &str, headers: &HeaderMap, body: &Bytes) -> (String, bool) {
    if let Some(target) = headers.get("x-amz-target").and_then(|target| target.to_str().ok()) {
        return (target.rsplit('.').next().unwrap_or_default().to_owned(), false);
    }
    if let Some((_, operation)) = path.split_once("/operation/") {
        return (operation.to_owned(), false);
    }
    let form = String::from_utf8_lossy(body);
    if let Some(action) = form.split('&').find_map(|pair| pair.strip_prefix("Action=")) {
        return (action.to_owned(), true);
    }
    let action = match path {
        _ if path.contains("/event-source-mappings") && method == "GET" => "ListEventSourceMappings",
        _ if path.contains("/event-source-mappings") => "UpdateEventSourceMapping",
        _ if path.ends_with("/configuration") => "GetFunctionConfiguration",
        _ => "Unknown",
    };
    (action.to_owned(), false)
}

/// Builds an error response of the protocol, with a message that must not be printed.
fn error_response(code: &str, is_query_protocol: bool) -> Response<Body> {
    let body = if is_query_protocol {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>hidden words</Message></Error></ErrorResponse>"
        )
    } else {
        json!({"__type": code, "message": "hidden words"}).to_string()
    };
    let content_type = if is_query_protocol { "text/xml" } else { "application/x-amz-json-1.1" };
    let response = Response::builder().status(StatusCode::BAD_REQUEST).header("content-type", content_type);
    let response = if is_query_protocol { response } else { response.header("x-amzn-errortype", code) };
    response.body(Body::from(body)).unwrap_or_default()
}
