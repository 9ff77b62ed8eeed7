//! A function that drains a queue: one batch after another.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use jiff::Timestamp;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use relay::ports::clock::Clock;
use relay::ports::queue::Deliver;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::lambda::batch;
use crate::lambda::worker::{ContactOrder, QueueWorker};

/// The time that the template gives a worker.
pub(crate) const FUNCTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Takes batches until the sandbox ends.
///
/// # Errors
/// When the runtime fails.
pub async fn serve_queue<D, O, C>(worker: QueueWorker<D, O, C>) -> Result<(), Error>
where
    D: Deliver,
    O: ContactOrder,
    C: Clock,
{
    let worker = &worker;
    // Read here and not by the runtime, which may quote the event where it cannot read it.
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        handle_batch_event(worker, event.payload.get(), event.context.deadline).await
    }))
    .await
}

/// Takes one batch, as Lambda hands it over; the deadline is in Unix milliseconds.
///
/// # Errors
/// When it is no batch.
pub async fn handle_batch_event<D: Deliver, O: ContactOrder, C: Clock>(
    worker: &QueueWorker<D, O, C>,
    payload: &str,
    deadline: u64,
) -> Result<SqsBatchResponse, NotAnSqsEvent> {
    let deadline = Instant::now() + time_left(deadline, worker.clock.now(), FUNCTION_TIMEOUT);
    let batch: SqsEvent = serde_json::from_str(payload).map_err(|_| NotAnSqsEvent)?;
    Ok(batch::process_batch(worker, batch, deadline).await)
}

/// An event that is no batch of a queue: it is not this function's. Its content is not told.
#[derive(Debug, thiserror::Error)]
#[error("the event is not a batch of messages of a queue")]
pub struct NotAnSqsEvent;

impl From<NotAnSqsEvent> for Diagnostic {
    fn from(error: NotAnSqsEvent) -> Self {
        Self { error_type: "NoBatch".to_owned(), error_message: error.to_string() }
    }
}

/// The time until a deadline in Unix milliseconds, for a function that the template gives `usual`. Nothing has been begun yet,
/// so about that much is left. Where it looks like more, or like less than half of it, the clock of a sandbox that has just
/// woken up is wrong, or the deadline is an emulator's: that is no reason to begin nothing, or to miss the end.
pub(crate) fn time_left(deadline: u64, now: Timestamp, timeout: Duration) -> Duration {
    let now = Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or_default());
    let remaining = Duration::from_millis(deadline).saturating_sub(now);
    if remaining < timeout / 2 { timeout } else { remaining.min(timeout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_deadline_falls_back_to_function_timeout() {
        let now = Timestamp::from_millisecond(1_734_425_918_123).unwrap();
        assert_eq!(time_left(0, now, FUNCTION_TIMEOUT), FUNCTION_TIMEOUT);
        assert_eq!(time_left(1_734_425_958_123, now, FUNCTION_TIMEOUT), Duration::from_secs(40));
    }

    #[test]
    fn skewed_clock_falls_back_to_function_timeout() {
        let now = Timestamp::from_second(1_734_425_918).unwrap();
        let seconds_left = |seconds: u64| time_left((1_734_425_918 + seconds) * 1000, now, FUNCTION_TIMEOUT).as_secs();
        assert_eq!([seconds_left(60), seconds_left(59), seconds_left(30)], [60, 59, 30]);
        assert_eq!([seconds_left(29), seconds_left(1), seconds_left(65), seconds_left(600)], [60; 4]);
    }
}
