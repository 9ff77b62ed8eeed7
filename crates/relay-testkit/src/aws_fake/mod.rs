//! SQS and DynamoDB inside the test's process, behind the AWS SDK's clients and without sockets, so that tokio's paused
//! clock controls them. A call takes some milliseconds of the test's time, and takes effect halfway. `function_harness`
//! serves them on a port.
//!
//! Only the operations and expressions that the relay uses are implemented. `tests/store_contract` runs against this
//! fake and against the emulator behind `make test-lambda`, so the two behave alike.

mod condition;
mod message_rules;
pub mod queues;
mod table;
mod tokens;
mod update;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use relay::delivery::Deliver;
use relay::ports::clock::Clock;
use relay_aws::lambda::contact_order::ContactOrder;
use relay_aws::lambda::queue_function;
use relay_aws::lambda::worker::QueueWorker;
use relay_aws::ledger::table::LedgerTable;
use relay_aws::sdk::clients::AwsClients;
use relay_aws::sqs::queue::SqsQueue;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use queues::{Message, QUEUES, Queues};
pub use table::Table;

use crate::lambda_fake::services::ServiceFault;
use crate::lambda_fake::stack;

/// Maximum time for a request to arrive, and for its response to come back.
const MAX_LATENCY_MS: f64 = 10.0;

/// The most messages of a worker's batch (the template's `BatchSize`).
pub const MAX_BATCH_SIZE: usize = 10;
/// The time that a worker has (the template's `Timeout`).
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(60);

/// The queue of a direction.
#[must_use]
pub fn queue(clients: &AwsClients, direction: usize) -> SqsQueue {
    let (queue, dead_letter_queue) = QUEUES[direction];
    SqsQueue::new(clients.clone(), queue.to_owned(), dead_letter_queue.to_owned())
}

/// The ledger's table.
#[must_use]
pub fn table(clients: &AwsClients) -> LedgerTable {
    LedgerTable::new(clients.dynamodb(), "ledger".to_owned())
}

/// Invokes a worker with a batch, as Lambda does, and returns the ids of the failed messages.
///
/// # Panics
/// When the worker cannot parse the batch.
pub async fn invoke_worker<D: Deliver, O: ContactOrder>(
    worker: &QueueWorker<D, O>,
    batch: &[Message],
) -> HashSet<String> {
    let payload = json!({"Records": batch.iter().map(Message::to_lambda_record).collect::<Vec<_>>()}).to_string();
    let deadline = u64::try_from((worker.clock.now() + WORKER_TIMEOUT).as_millisecond()).unwrap_or_default();
    let response = queue_function::handle_batch_event(worker, &payload, deadline).await;
    let failures = response.unwrap_or_else(|error| panic!("{error}")).batch_item_failures;
    failures.into_iter().map(|failure| failure.item_identifier).collect()
}

/// A service's response: status and JSON body.
pub(crate) struct ServiceResponse {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl ServiceResponse {
    pub(crate) const fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    pub(crate) fn error(code: &str, message: &str) -> Self {
        Self { status: 400, body: serde_json::json!({"__type": code, "message": message}) }
    }
}

/// State of the services. It outlives the workers and clients.
#[derive(Debug, Default)]
pub struct ServiceState {
    /// The queues.
    pub queues: Queues,
    /// The ledger's table.
    pub table: Table,
    /// Heap that the services hold, in bytes, where a test measures it.
    pub heap_bytes: usize,
}

/// Counts what the process holds, in bytes.
pub type MeasureHeap = fn() -> usize;

/// The services as one caller reaches them.
#[derive(Clone)]
pub struct FakeServices {
    state: Arc<Mutex<ServiceState>>,
    clock: Arc<dyn Clock>,
    /// Notified when a message may have become available.
    message_available: Arc<Notify>,
    measure_heap: Option<MeasureHeap>,
    latency: f64,
    failing_calls: Arc<Mutex<Vec<FailingCalls>>>,
}

/// Calls that are to fail.
#[derive(Debug)]
struct FailingCalls {
    operation: &'static str,
    body_contains: &'static str,
    error: ServiceFault,
    remaining: u32,
}

impl std::fmt::Debug for FakeServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl FakeServices {
    /// Creates services with this state, on the test's clock.
    #[must_use]
    pub fn new(state: Arc<Mutex<ServiceState>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            state,
            clock,
            message_available: Arc::default(),
            measure_heap: None,
            latency: MAX_LATENCY_MS,
            failing_calls: Arc::default(),
        }
    }

    /// Creates services that respond at once, for a clock that only the test advances.
    #[must_use]
    pub fn without_latency(self) -> Self {
        Self { latency: 0.0, ..self }
    }

    /// The same, and what they hold is counted.
    #[must_use]
    pub fn with_heap_measure(self, measure_heap: Option<MeasureHeap>) -> Self {
        Self { measure_heap, ..self }
    }

    /// Makes the next `times` calls of an operation (`UpdateItem`) whose body contains a text (`contact#`) slow or
    /// faulty.
    pub fn inject(&self, operation: &'static str, body_contains: &'static str, error: ServiceFault, times: u32) {
        self.failing_calls().push(FailingCalls { operation, body_contains, error, remaining: times });
    }

    /// Everything works again.
    pub fn clear(&self) {
        self.failing_calls().clear();
    }

    fn failing_calls(&self) -> MutexGuard<'_, Vec<FailingCalls>> {
        self.failing_calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to a call, if it is to fail.
    fn take_fault(&self, target: &str, body: &[u8]) -> Option<ServiceFault> {
        let mut failing_calls = self.failing_calls();
        let text = std::str::from_utf8(body).unwrap_or_default();
        let matches_call = |call: &&mut FailingCalls| {
            call.remaining > 0 && target.ends_with(call.operation) && text.contains(call.body_contains)
        };
        let call = failing_calls.iter_mut().find(matches_call)?;
        call.remaining -= 1;
        Some(call.error)
    }

    /// Returns AWS clients for these services.
    #[must_use]
    pub fn clients(&self) -> AwsClients {
        stack::clients_at("http://emulated.invalid", "emulated").with_http_client(self.clone())
    }

    /// Locks the state.
    pub fn state(&self) -> MutexGuard<'_, ServiceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and accounts for the heap that the change allocates.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut ServiceState, jiff::Timestamp) -> T,
        returned_bytes: impl FnOnce(&T) -> usize,
    ) -> T {
        let mut state = self.state();
        let before = self.measure_heap.map_or(0, |count| count());
        let output = change(&mut state, self.clock.now());
        let after = self.measure_heap.map_or(0, |count| count());
        // The returned value belongs to the caller.
        state.heap_bytes = (state.heap_bytes + after).saturating_sub(before + returned_bytes(&output));
        output
    }

    /// Waits until a message may be available, for `wait` at most.
    pub async fn wait_for_message(&self, wait: Duration) {
        let _ = tokio::time::timeout(wait, self.message_available.notified()).await;
    }

    /// Wakes the waiting workers.
    pub fn notify_message_available(&self) {
        self.message_available.notify_waiters();
    }

    async fn network_delay(&self) {
        if self.latency > 0.0 {
            let milliseconds = self.clock.random() * self.latency;
            tokio::time::sleep(Duration::from_secs_f64(milliseconds / 1000.0)).await;
        }
    }

    pub(crate) async fn handle_call(&self, target: &str, body: &[u8]) -> (u16, Box<[u8]>) {
        self.network_delay().await;
        let error = self.take_fault(target, body);
        match error {
            None | Some(ServiceFault::LoseResponse) => {}
            Some(ServiceFault::Delay(wait)) => tokio::time::sleep(wait).await,
            Some(ServiceFault::InternalError | ServiceFault::Throttle | ServiceFault::Hang) => return internal_error(),
        }
        let (status, body) = self.change(|state, now| dispatch(state, target, body, now), |(_, body)| body.len());
        if target.starts_with("AmazonSQS") {
            self.notify_message_available();
        }
        self.network_delay().await;
        if error == Some(ServiceFault::LoseResponse) { internal_error() } else { (status, body) }
    }
}

fn internal_error() -> (u16, Box<[u8]>) {
    let body = json!({"__type": "InternalServerError", "message": "injected"});
    (500, body.to_string().into_bytes().into_boxed_slice())
}

fn dispatch(state: &mut ServiceState, target: &str, body: &[u8], now: jiff::Timestamp) -> (u16, Box<[u8]>) {
    let request: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}"));
    let response = match target.split_once('.') {
        Some(("AmazonSQS", operation)) => state.queues.handle(operation, &request, now),
        Some(("DynamoDB_20120810", operation)) => state.table.handle(operation, &request),
        _ => panic!("unexpected call {target}"),
    };
    (response.status, response.body.to_string().into_bytes().into_boxed_slice())
}

impl HttpClient for FakeServices {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for FakeServices {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let services = self.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
            let body = request.body().bytes().unwrap_or_default();
            let (status, body) = services.handle_call(&target, body).await;
            let status = status.try_into().map_err(|_| ConnectorError::other("no status".into(), None))?;
            Ok(HttpResponse::new(status, SdkBody::from(Vec::from(body))))
        })
    }
}
