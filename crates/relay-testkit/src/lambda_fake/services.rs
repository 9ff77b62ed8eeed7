//! Proxy between the functions and the emulated services. It enforces the permissions of the function's role, which the
//! emulator does not check, and injects service faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use relay::destination::http_client::HttpClient;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::flaky_proxy::FlakyProxy;
use crate::http_server;
use crate::lambda_fake::event_source::InFlightMessages;
use crate::lambda_fake::meter::{ItemReadCall, Meter};
use crate::lambda_fake::stack::{array, expect_str};

/// The largest call.
const MAX_CALL_BYTES: usize = 2 * 1024 * 1024;

/// How a service misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// It responds with 500.
    InternalError,
    /// It asks to be called less often.
    Throttle,
    /// It responds after this time.
    Delay(Duration),
    /// It does not respond.
    Hang,
    /// It performs the call, and the response is lost.
    LoseResponse,
}

/// The services as the functions of one stack see them.
#[derive(Debug)]
pub struct Services {
    proxy: FlakyProxy,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    emulator: String,
    client: HttpClient,
    /// What each function may do.
    allowed: BTreeMap<String, Vec<Permission>>,
    /// The names of queues and of the table, as calls have them, and their ARNs.
    arns: BTreeMap<String, String>,
    in_flight: Arc<InFlightMessages>,
    faults: Mutex<BTreeMap<String, ServiceFault>>,
    calls: Mutex<Vec<(String, String)>>,
    denied: Mutex<Vec<String>>,
    /// New visibility timeouts by receipt, since the last read.
    visibility_changes: Mutex<Vec<(String, u64)>>,
    meter: Meter,
}

/// An action on a resource, and on which items of a table.
#[derive(Debug)]
struct Permission {
    action: String,
    resource: String,
    /// `dynamodb:LeadingKeys`, if the statement has it: keys, or how they begin.
    leading_keys: Option<Vec<String>>,
}

impl Permission {
    fn covers(&self, action: &str, resource: &str, key: Option<&str>) -> bool {
        let matches = |pattern: &String, key: &str| match pattern.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == pattern,
        };
        let covers_key = |patterns: &Vec<String>| key.is_some_and(|key| patterns.iter().any(|each| matches(each, key)));
        self.action == action && self.resource == resource && self.leading_keys.as_ref().is_none_or(covers_key)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.server.abort();
        if !std::thread::panicking() {
            // In every test: no function makes a call that its role does not permit.
            let denied = self.shared.denied.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(denied.is_empty(), "denied: {denied:?}");
        }
    }
}

impl Services {
    /// Starts them for the functions of this stack.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(emulator: String, stack: &Value, in_flight: Arc<InFlightMessages>) -> Self {
        let client = relay::destination::http_client::build().unwrap_or_else(|error| panic!("{error}"));
        let (allowed, arns) = (allowed_actions(stack), arns_by_name(stack));
        let (faults, calls, denied) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (visibility_changes, meter) = (Mutex::default(), Meter::default());
        let shared =
            Shared { emulator, client, allowed, arns, in_flight, faults, calls, denied, visibility_changes, meter };
        let shared = Arc::new(shared);
        let app = axum::Router::new().fallback(handle_call).with_state(Arc::clone(&shared));
        let (address, server) = http_server::serve(app).await;
        let proxy = FlakyProxy::start(&format!("http://{address}")).await;
        Self { proxy, shared, server }
    }

    /// Their address, as `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        self.proxy.url("")
    }

    /// Returns the address of the proxy.
    #[must_use]
    pub const fn proxy(&self) -> &FlakyProxy {
        &self.proxy
    }

    /// Makes every call of a service (`sqs`) or action (`sqs:SendMessage`) fail like this from now on.
    pub fn inject(&self, target: &str, error: ServiceFault) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned(), error);
    }

    /// Everything works again.
    pub fn clear(&self) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes the visibility timeouts, in seconds by receipt, that functions have set since the last call.
    #[must_use]
    pub fn take_visibility_changes(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.shared.visibility_changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The calls so far: function and action.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, String)> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What counts the calls as they are billed.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }
}

fn allowed_actions(stack: &Value) -> BTreeMap<String, Vec<Permission>> {
    let functions = stack["functions"].as_object().into_iter().flatten();
    let permissions_of_role = |role: &Value| {
        let statements =
            array(&stack["roles"][expect_str(role)]["statements"]).filter(|each| each["effect"] == "Allow");
        statements.flat_map(permissions_of_statement).collect()
    };
    functions.map(|(name, function)| (name.clone(), permissions_of_role(&function["role"]))).collect()
}

fn permissions_of_statement(statement: &Value) -> impl Iterator<Item = Permission> {
    let condition = statement["condition"].as_object();
    let leading_keys = condition.map(|condition| {
        let keys = &condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
        assert!(condition.len() == 1 && keys.is_array(), "a condition that is not known here: {condition:?}");
        array(keys).map(|key| expect_str(key).to_owned()).collect::<Vec<_>>()
    });
    array(&statement["actions"]).flat_map(move |action| {
        let leading_keys = leading_keys.clone();
        array(&statement["resources"]).map(move |resource| Permission {
            action: expect_str(action).to_owned(),
            resource: expect_str(resource).to_owned(),
            leading_keys: leading_keys.clone(),
        })
    })
}

fn arns_by_name(stack: &Value) -> BTreeMap<String, String> {
    let queues = stack["queues"].as_object().into_iter().flatten().map(|(_, queue)| (&queue["url"], &queue["arn"]));
    let tables = stack["tables"].as_object().into_iter().flatten().map(|(_, table)| (&table["name"], &table["arn"]));
    queues.chain(tables).map(|(name, arn)| (expect_str(name).to_owned(), expect_str(arn).to_owned())).collect()
}

async fn handle_call(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_CALL_BYTES).await else {
        return error_response(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge");
    };
    let Some((function, action)) = caller_and_action(&parts.headers) else {
        return error_response(StatusCode::BAD_REQUEST, "IncompleteSignature");
    };
    shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push((function.clone(), action.clone()));
    let resource = shared.resource(&body);
    let key = item_key_in(&body);
    let mut permissions = shared.allowed.get(&function).into_iter().flatten();
    if !permissions.any(|permission| permission.covers(&action, &resource, key.as_deref())) {
        let call = format!("{function}: {action} on {resource} {}", key.unwrap_or_default());
        shared.denied.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        return error_response(StatusCode::BAD_REQUEST, "AccessDeniedException");
    }
    let service = action.split(':').next().unwrap_or_default();
    let error = {
        let faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.get(&action).or_else(|| faults.get(service)).copied()
    };
    match error {
        Some(ServiceFault::InternalError) => {
            return error_response(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError");
        }
        Some(ServiceFault::Throttle) => return error_response(StatusCode::BAD_REQUEST, throttling_code(service)),
        Some(ServiceFault::Hang) => return std::future::pending().await,
        Some(ServiceFault::Delay(time)) => tokio::time::sleep(time).await,
        Some(ServiceFault::LoseResponse) | None => {}
    }
    // The emulator accepts any receipt that a message ever had.
    if action == "sqs:ChangeMessageVisibility" && shared.in_flight.is_stale(&receipt_in(&body)) {
        return error_response(StatusCode::BAD_REQUEST, "ReceiptHandleIsInvalid");
    }
    if action == "sqs:ChangeMessageVisibility" {
        let change = (receipt_in(&body), visibility_timeout_in(&body));
        shared.visibility_changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
    let item = shared.meter.item_read_for(&action, &body);
    let before = shared.read_item(item.as_ref(), &parts.headers).await;
    let response = shared.forward(&parts, body.clone()).await;
    let after = shared.read_item(item.as_ref(), &parts.headers).await;
    shared.meter.record_call(&function, &action, &body, before.as_ref(), after.as_ref());
    if error == Some(ServiceFault::LoseResponse) {
        error_response(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
    } else {
        response
    }
}

impl Shared {
    /// The ARN of what a call is about.
    fn resource(&self, body: &[u8]) -> String {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let named = ["QueueUrl", "TableName", "SecretId"].iter().find_map(|field| body[*field].as_str());
        let named = named.unwrap_or_default();
        self.arns.get(named).cloned().unwrap_or_else(|| named.to_owned())
    }

    /// The item as it is, if it is there.
    async fn read_item(&self, item: Option<&ItemReadCall>, caller: &HeaderMap) -> Option<Value> {
        let call =
            self.client.request(axum::http::Method::POST, &format!("{}/", self.emulator)).body(item?.body.clone());
        let call = call
            .header("x-amz-target", "DynamoDB_20120810.GetItem")
            .header("content-type", "application/x-amz-json-1.0");
        // The signature names the region; the emulator checks no signature.
        let call =
            caller.get("authorization").into_iter().fold(call, |call, value| call.header("authorization", value));
        let response = call.send().await.unwrap_or_else(|error| panic!("an item cannot be measured: {error}"));
        let (status, body) = (response.status(), response.bytes().await.unwrap_or_default());
        assert!(status.is_success(), "an item cannot be measured: {}", String::from_utf8_lossy(&body));
        let document: Value = serde_json::from_slice(&body).ok()?;
        document.get("Item").cloned()
    }

    async fn forward(&self, parts: &axum::http::request::Parts, body: Bytes) -> Response<Body> {
        let mut call = self.client.request(parts.method.clone(), &format!("{}{}", self.emulator, parts.uri)).body(body);
        for (name, value) in
            parts.headers.iter().filter(|(name, _)| !["host", "content-length"].contains(&name.as_str()))
        {
            call = call.header(name, value);
        }
        let Ok(emulator_response) = call.send().await else {
            return error_response(StatusCode::BAD_GATEWAY, "NoEmulator");
        };
        let mut response = Response::builder().status(emulator_response.status());
        for name in ["content-type", "x-amzn-requestid", "x-amz-crc32"] {
            if let Some(value) = emulator_response.headers().get(name) {
                response = response.header(name, value);
            }
        }
        let body = emulator_response.bytes().await.unwrap_or_default();
        response.body(Body::from(body)).unwrap_or_else(|_| error_response(StatusCode::BAD_GATEWAY, "NoAnswer"))
    }
}

fn receipt_in(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["ReceiptHandle"].as_str().unwrap_or_default().to_owned()
}

/// The partition key of the item that a call is about.
fn item_key_in(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["Key"]["pk"]["S"].as_str().map(str::to_owned)
}

fn visibility_timeout_in(body: &[u8]) -> u64 {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["VisibilityTimeout"].as_u64().unwrap_or_default()
}

/// The caller's access key, which is the function's name here, and the action as policies call it.
fn caller_and_action(headers: &HeaderMap) -> Option<(String, String)> {
    let credential = headers.get("authorization")?.to_str().ok()?.split_once("Credential=")?.1;
    let mut scope = credential.split(',').next()?.split('/');
    let (function, service) = (scope.next()?, scope.nth(2)?);
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    let action = target.rsplit('.').next()?;
    Some((function.to_owned(), format!("{service}:{action}")))
}

/// Returns the service's error code for throttling.
fn throttling_code(service: &str) -> &'static str {
    match service {
        "sqs" => "com.amazonaws.sqs#RequestThrottled",
        "dynamodb" => "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        _ => "ThrottlingException",
    }
}

fn error_response(status: StatusCode, code: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(json!({"__type": code, "message": "injected"}).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("application/x-amz-json-1.0"));
    response
}
