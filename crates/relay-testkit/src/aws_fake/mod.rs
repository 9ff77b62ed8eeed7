//! SQS and DynamoDB inside a test's process: what the AWS SDK's clients call, without sockets, so that tokio's paused clock
//! moves them along. Time is that of the test; a call takes some milliseconds of it, and takes effect in between.
//!
//! Only what the relay uses is here. That it behaves as the emulator behind `make test-lambda` does is shown by the behaviours of
//! `tests/store_contract`, which run against both.

mod condition;
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
use relay::ports::clock::Clock;
use relay_aws::lambda::batch::MessageWorker;
use relay_aws::lambda::sqs;
use relay_aws::ledger::table::LedgerTable;
use relay_aws::sdk::clients::AwsClients;
use relay_aws::sqs::queue::SqsQueue;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use queues::{Message, QUEUES, Queues};
pub use table::Table;

use crate::lambda_fake::services::Trouble;
use crate::lambda_fake::stack;

/// What a call takes to arrive at most, and its answer to come back.
const LATENCY_MILLISECONDS: f64 = 10.0;

/// The most messages of a worker's batch (the template's `BatchSize`).
pub const BATCH: usize = 10;
/// The time that a worker has (the template's `Timeout`).
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The queue of a direction.
#[must_use]
pub fn queue(account: &AwsClients, way: usize) -> SqsQueue {
    let (queue, dead) = QUEUES[way];
    SqsQueue::new(account.clone(), queue.to_owned(), dead.to_owned())
}

/// The ledger's table.
#[must_use]
pub fn table(account: &AwsClients) -> LedgerTable {
    LedgerTable::new(account.dynamodb(), "ledger".to_owned())
}

/// Hands a batch to a worker, as Lambda does, and gives the ids of the messages that come back.
///
/// # Panics
/// When the worker takes it for no batch.
pub async fn invoke<W: MessageWorker, A: Clock>(
    worker: &W,
    queue: &SqsQueue,
    ambient: &A,
    batch: &[Message],
) -> HashSet<String> {
    let payload = json!({"Records": batch.iter().map(Message::record).collect::<Vec<_>>()}).to_string();
    let deadline = u64::try_from((ambient.now() + TIMEOUT).as_millisecond()).unwrap_or_default();
    let response = sqs::handle_batch_event(worker, queue, ambient, &payload, deadline).await;
    let failures = response.unwrap_or_else(|error| panic!("{error}")).batch_item_failures;
    failures.into_iter().map(|failure| failure.item_identifier).collect()
}

/// What a service answers: the status, and JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) const fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    pub(crate) fn refusal(code: &str, message: &str) -> Self {
        Self { status: 400, body: serde_json::json!({"__type": code, "message": message}) }
    }
}

/// What the services keep; it outlives whoever calls them.
#[derive(Debug, Default)]
pub struct Kept {
    /// The queues.
    pub queues: Queues,
    /// The ledger's table.
    pub table: Table,
    /// The heap that the services hold, in bytes, where somebody counts it.
    pub held: usize,
}

/// Counts what the process holds, in bytes.
pub type Count = fn() -> usize;

/// The services as one caller reaches them.
#[derive(Clone)]
pub struct Services {
    kept: Arc<Mutex<Kept>>,
    ambient: Arc<dyn Clock>,
    /// Something has come into a queue, or is shown again.
    shown: Arc<Notify>,
    count: Option<Count>,
    latency: f64,
    ailing: Arc<Mutex<Vec<Ailing>>>,
}

/// Calls that do not end well.
#[derive(Debug)]
struct Ailing {
    operation: &'static str,
    about: &'static str,
    trouble: Trouble,
    left: u32,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl Services {
    /// Services with what they kept, at the time of this world.
    #[must_use]
    pub fn new(kept: Arc<Mutex<Kept>>, ambient: Arc<dyn Clock>) -> Self {
        Self {
            kept,
            ambient,
            shown: Arc::default(),
            count: None,
            latency: LATENCY_MILLISECONDS,
            ailing: Arc::default(),
        }
    }

    /// The same, which answer at once: for a clock that stands.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { latency: 0.0, ..self }
    }

    /// The same, and what they hold is counted.
    #[must_use]
    pub fn counted(self, count: Option<Count>) -> Self {
        Self { count, ..self }
    }

    /// The next so many calls of an operation (`UpdateItem`) that say this (`contact#`) are slow, lose their answers, or fail.
    pub fn trouble(&self, operation: &'static str, about: &'static str, trouble: Trouble, times: u32) {
        self.ailing().push(Ailing { operation, about, trouble, left: times });
    }

    /// Everything works again.
    pub fn mend(&self) {
        self.ailing().clear();
    }

    fn ailing(&self) -> MutexGuard<'_, Vec<Ailing>> {
        self.ailing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to a call, if it is to fail.
    fn ails(&self, target: &str, body: &[u8]) -> Option<Trouble> {
        let mut ailing = self.ailing();
        let text = std::str::from_utf8(body).unwrap_or_default();
        let hit = |one: &&mut Ailing| one.left > 0 && target.ends_with(one.operation) && text.contains(one.about);
        let one = ailing.iter_mut().find(hit)?;
        one.left -= 1;
        Some(one.trouble)
    }

    /// An account whose services these are.
    #[must_use]
    pub fn account(&self) -> AwsClients {
        stack::account("http://emulated.invalid", "emulated").with_http_client(self.clone())
    }

    /// What they keep.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done to what they keep; the heap that it takes is theirs.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Kept, jiff::Timestamp) -> T,
        given: impl FnOnce(&T) -> usize,
    ) -> T {
        let mut kept = self.kept();
        let before = self.count.map_or(0, |count| count());
        let answer = change(&mut kept, self.ambient.now());
        let after = self.count.map_or(0, |count| count());
        // What is handed out is the caller's.
        kept.held = (kept.held + after).saturating_sub(before + given(&answer));
        answer
    }

    /// Waits until something may have come, for so long at most.
    pub async fn shown_within(&self, wait: Duration) {
        let _ = tokio::time::timeout(wait, self.shown.notified()).await;
    }

    /// Tells who waits that something may have come.
    pub fn show(&self) {
        self.shown.notify_waiters();
    }

    async fn travel(&self) {
        if self.latency > 0.0 {
            let milliseconds = self.ambient.random() * self.latency;
            tokio::time::sleep(Duration::from_secs_f64(milliseconds / 1000.0)).await;
        }
    }

    async fn answer(&self, target: &str, body: &[u8]) -> (u16, Box<[u8]>) {
        self.travel().await;
        let ails = self.ails(target, body);
        match ails {
            None | Some(Trouble::LosesAnswers) => {}
            Some(Trouble::Slow(wait)) => tokio::time::sleep(wait).await,
            Some(Trouble::Fails | Trouble::Throttles | Trouble::Hangs) => return failed(),
        }
        let (status, body) = self.change(|kept, now| answered(kept, target, body, now), |(_, body)| body.len());
        if target.starts_with("AmazonSQS") {
            self.show();
        }
        self.travel().await;
        if ails == Some(Trouble::LosesAnswers) { failed() } else { (status, body) }
    }
}

fn failed() -> (u16, Box<[u8]>) {
    let body = json!({"__type": "InternalServerError", "message": "as told"});
    (500, body.to_string().into_bytes().into_boxed_slice())
}

fn answered(kept: &mut Kept, target: &str, body: &[u8], now: jiff::Timestamp) -> (u16, Box<[u8]>) {
    let request: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}"));
    let answer = match target.split_once('.') {
        Some(("AmazonSQS", operation)) => kept.queues.answer(operation, &request, now),
        Some(("DynamoDB_20120810", operation)) => kept.table.answer(operation, &request),
        _ => panic!("nobody calls {target}"),
    };
    (answer.status, answer.body.to_string().into_bytes().into_boxed_slice())
}

impl HttpClient for Services {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Services {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let services = self.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
            let body = request.body().bytes().unwrap_or_default();
            let (status, body) = services.answer(&target, body).await;
            let status = status.try_into().map_err(|_| ConnectorError::other("no status".into(), None))?;
            Ok(HttpResponse::new(status, SdkBody::from(Vec::from(body))))
        })
    }
}
