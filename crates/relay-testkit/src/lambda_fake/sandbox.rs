//! A function's process, run as Lambda runs it: over the Runtime API, frozen whenever it has nothing to do.
//!
//! The protocol is that of AWS' page "Using the Lambda runtime API for custom runtimes".

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::{http_server, relay_process};

/// Longest INIT.
const MAX_INIT: Duration = Duration::from_secs(15);

/// How an invocation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeError {
    /// The function responded with an error: its text.
    FunctionError(String),
    /// It exceeded its timeout, and was ended.
    TimedOut,
    /// Its process ended.
    Exited,
}

type InvokeResult = Result<Bytes, InvokeError>;

struct Invocation {
    id: String,
    event: Vec<u8>,
    deadline: u128,
}

struct Runtime {
    invocations: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    pending_responses: Mutex<HashMap<String, oneshot::Sender<InvokeResult>>>,
    next_requested: mpsc::Sender<()>,
}

/// A sandbox.
#[derive(Debug)]
pub struct Sandbox {
    child: Child,
    invocations: mpsc::Sender<Invocation>,
    runtime: Arc<Runtime>,
    next_requested: mpsc::Receiver<()>,
    server: JoinHandle<()>,
    count: u64,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
        // A frozen process is killed like any other.
        let _ = self.child.start_kill();
    }
}

impl Sandbox {
    /// Starts a function's binary, and freezes it when it asks for its first event.
    ///
    /// # Panics
    /// When it does not start; its log has the cause.
    pub async fn start(name: &str, binary: &Path, environment: &BTreeMap<String, String>, log: &Path) -> Self {
        Self::start_within(MAX_INIT, name, binary, environment, log).await
    }

    /// The same for a program that is slowed down, with another limit.
    ///
    /// # Panics
    /// When it does not start; its log has the cause.
    pub async fn start_within(
        max_init: Duration,
        name: &str,
        binary: &Path,
        environment: &BTreeMap<String, String>,
        log: &Path,
    ) -> Self {
        let (invocations, receiver) = mpsc::channel(1);
        let (next_requested, mut next_requested_receiver) = mpsc::channel(16);
        let pending_responses = Mutex::new(HashMap::new());
        let runtime =
            Arc::new(Runtime { invocations: tokio::sync::Mutex::new(receiver), pending_responses, next_requested });
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(invocation_response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(invocation_error))
            .route("/2018-06-01/runtime/init/error", post(|| async { StatusCode::ACCEPTED }))
            .with_state(Arc::clone(&runtime));
        let (address, server) = http_server::serve(app).await;
        let log =
            std::fs::File::options().create(true).append(true).open(log).unwrap_or_else(|error| panic!("{error}"));
        let output = log.try_clone().unwrap_or_else(|error| panic!("{error}"));
        let mut child = Command::new(binary)
            .env_clear()
            .envs(environment)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}"))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .env("_HANDLER", "bootstrap")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        tokio::select! {
            first_request = next_requested_receiver.recv() => assert!(first_request.is_some()),
            status = child.wait() => panic!("{name} ended at its start: {status:?}"),
            () = tokio::time::sleep(max_init) => panic!("{name} did not ask for an event within its INIT"),
        }
        let sandbox = Self { child, invocations, runtime, next_requested: next_requested_receiver, server, count: 0 };
        sandbox.signal(Signal::STOP);
        sandbox
    }

    /// Thaws it, invokes it with one event, and freezes it again when it asks for the next.
    ///
    /// # Errors
    /// When it responds with an error, too late, or not at all.
    pub async fn invoke(&mut self, event: Vec<u8>, timeout: Duration) -> InvokeResult {
        self.count += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", self.count);
        let (response_sender, response_receiver) = oneshot::channel();
        self.runtime
            .pending_responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), response_sender);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let deadline = (now + timeout).as_millis();
        self.signal(Signal::CONT);
        if self.invocations.send(Invocation { id, event, deadline }).await.is_err() {
            return Err(InvokeError::Exited);
        }
        let result = tokio::select! {
            response = response_receiver => response.unwrap_or(Err(InvokeError::Exited)),
            _ = self.child.wait() => Err(InvokeError::Exited),
            () = tokio::time::sleep(timeout) => Err(InvokeError::TimedOut),
        };
        match result {
            Err(InvokeError::TimedOut | InvokeError::Exited) => {
                let _ = self.child.start_kill();
            }
            _ => {
                // Work between the response and the next request belongs to this invocation.
                let _ = tokio::time::timeout(Duration::from_secs(5), self.next_requested.recv()).await;
                self.signal(Signal::STOP);
            }
        }
        result
    }

    /// Kills it, as when its host fails.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    /// Whether its process is there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.child.id() {
            relay_process::signal(process, signal);
        }
    }
}

async fn next_invocation(State(runtime): State<Arc<Runtime>>) -> Response<axum::body::Body> {
    let _ = runtime.next_requested.try_send(());
    let Some(invocation) = runtime.invocations.lock().await.recv().await else {
        return empty_response(StatusCode::GONE);
    };
    Response::builder()
        .header("Content-Type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", invocation.id)
        .header("Lambda-Runtime-Deadline-Ms", invocation.deadline.to_string())
        .header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:123456789012:function:relay")
        .header("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0")
        .body(axum::body::Body::from(invocation.event))
        .unwrap_or_else(|_| empty_response(StatusCode::INTERNAL_SERVER_ERROR))
}

async fn invocation_response(
    State(runtime): State<Arc<Runtime>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> StatusCode {
    complete(&runtime, &id, Ok(body))
}

async fn invocation_error(
    State(runtime): State<Arc<Runtime>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> StatusCode {
    complete(&runtime, &id, Err(InvokeError::FunctionError(String::from_utf8_lossy(&body).into_owned())))
}

fn complete(runtime: &Runtime, id: &str, result: InvokeResult) -> StatusCode {
    if let Some(response_sender) = runtime.pending_responses.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
        let _ = response_sender.send(result);
    }
    StatusCode::ACCEPTED
}

fn empty_response(status: StatusCode) -> Response<axum::body::Body> {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = status;
    response
}
