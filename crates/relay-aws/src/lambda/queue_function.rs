//! A function that drains a queue, one batch after another.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use relay::delivery::Deliver;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::lambda::batch;
use crate::lambda::contact_order::ContactOrder;
use crate::lambda::time_budget::{WORKER_TIMEOUT, time_left};
use crate::lambda::worker::QueueWorker;

pub(crate) async fn serve_queue<D: Deliver, O: ContactOrder>(worker: QueueWorker<D, O>) -> Result<(), Error> {
    let worker = &worker;
    // The runtime may quote an event that it cannot parse, so it gets the event unparsed.
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        handle_batch_event(worker, event.payload.get(), event.context.deadline).await
    }))
    .await
}

/// Processes one batch, as Lambda hands it over. The deadline is in Unix milliseconds.
///
/// # Errors
/// When the event is not a batch.
pub async fn handle_batch_event<D: Deliver, O: ContactOrder>(
    worker: &QueueWorker<D, O>,
    payload: &str,
    deadline: u64,
) -> Result<SqsBatchResponse, NotAnSqsEvent> {
    let deadline = Instant::now() + time_left(deadline, worker.clock.now(), WORKER_TIMEOUT);
    let batch: SqsEvent = serde_json::from_str(payload).map_err(|_| NotAnSqsEvent)?;
    Ok(batch::process_batch(worker, batch, deadline).await)
}

/// An event that is not a batch of a queue. Its content is not logged.
#[derive(Debug, thiserror::Error)]
#[error("the event is not a batch of messages of a queue")]
pub struct NotAnSqsEvent;

impl From<NotAnSqsEvent> for Diagnostic {
    fn from(error: NotAnSqsEvent) -> Self {
        Self { error_type: "NoBatch".to_owned(), error_message: error.to_string() }
    }
}
