//! The HTTP API: converts a request to an event of payload format 2.0, and the function's response to an HTTP response.
//!
//! Conversion as in AWS' page "Create AWS Lambda proxy integrations for HTTP APIs": bodies whose type is not textual
//! are base64.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::http_server;
use crate::lambda_fake::function::Function;

/// Maximum size of a body at the gateway.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    server: JoinHandle<()>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A route's method and path, in which a name in braces stands for any segment, and its function.
pub type Routes = BTreeMap<(String, String), Arc<Function>>;

impl Gateway {
    /// Serves these routes, and notifies the pollers after each request.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(routes: Routes, nudge: Arc<Notify>) -> Self {
        let statuses: Arc<Mutex<Vec<u16>>> = Arc::default();
        let answered = Arc::clone(&statuses);
        let serve = move |State(routes): State<Arc<Routes>>, request: Request| {
            let (nudge, answered) = (Arc::clone(&nudge), Arc::clone(&answered));
            async move {
                let response = handle_request(&routes, request).await;
                answered.lock().unwrap_or_else(PoisonError::into_inner).push(response.status().as_u16());
                nudge.notify_waiters();
                response
            }
        };
        let app = axum::Router::new().fallback(serve).with_state(Arc::new(routes));
        let (address, server) = http_server::serve(app).await;
        Self { address, server, statuses }
    }

    /// The statuses of all responses so far.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its address, as `http://…`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn handle_request(routes: &Routes, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let route = routes.iter().find(|((known, pattern), _)| *known == method && is_match(pattern, &path));
    let Some(((_, pattern), function)) = route else {
        return json_response(StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#);
    };
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return json_response(StatusCode::PAYLOAD_TOO_LARGE, r#"{"message":"Request Entity Too Large"}"#);
    };
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.to_string()).and_modify(|all| *all = format!("{all},{value}")).or_insert(value);
    }
    let content_type = headers.get("content-type").map_or("application/json", String::as_str);
    let is_text = content_type.starts_with("text/") || content_type.starts_with("application/json");
    let (body, is_base64) = match std::str::from_utf8(&body) {
        Ok(text) if is_text => (text.to_owned(), false),
        _ => (STANDARD.encode(&body), true),
    };
    let event = json!({
        "version": "2.0", "routeKey": format!("{method} {pattern}"), "rawPath": path,
        "rawQueryString": parts.uri.query().unwrap_or_default(), "headers": headers,
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "api.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "api", "requestId": "request", "routeKey": format!("{method} {pattern}"), "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_773_342_238_000_i64,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"},
        },
        "body": body, "isBase64Encoded": is_base64,
    });
    match function.invoke(event.to_string().into_bytes()).await {
        Ok(function_response) => to_http_response(&function_response),
        // What a gateway makes of every failure of a function.
        Err(_) => json_response(StatusCode::INTERNAL_SERVER_ERROR, r#"{"message":"Internal Server Error"}"#),
    }
}

/// Whether a path is that of a route.
fn is_match(pattern: &str, path: &str) -> bool {
    let is_segment = |(expected, segment): (&str, &str)| {
        if expected.starts_with('{') { !segment.is_empty() } else { expected == segment }
    };
    pattern.split('/').count() == path.split('/').count() && pattern.split('/').zip(path.split('/')).all(is_segment)
}

fn to_http_response(function_response: &[u8]) -> Response<Body> {
    let function_response: Value = serde_json::from_slice(function_response).unwrap_or_default();
    let status = function_response["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
    let mut response = Response::builder().status(status);
    for (name, value) in function_response["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap_or_default());
    }
    let text = function_response["body"].as_str().unwrap_or_default();
    let body = match function_response["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(text).unwrap_or_default(),
        _ => text.as_bytes().to_vec(),
    };
    response.body(Body::from(body)).unwrap_or_else(|_| json_response(StatusCode::INTERNAL_SERVER_ERROR, "{}"))
}

fn json_response(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}
