//! A function that drains a queue: its pace, and one batch after another.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use relay::ambient::Ambient;
use relay::pace::ProcessPace;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::batch::{self, MessageWorker};
use crate::queue::SqsQueue;

/// How many sandboxes drain one queue (the template's `MaximumConcurrency`, which cannot be less).
const SANDBOXES: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// The time that the template gives a worker.
const USUAL_TIME: Duration = Duration::from_secs(60);

/// The pace of one sandbox: all of them together keep the far end's, also in the first moment.
#[must_use]
pub fn pace(per_second: NonZeroU32) -> ProcessPace {
    ProcessPace::share(per_second, SANDBOXES)
}

/// Takes batches until the sandbox ends.
///
/// # Errors
/// When the runtime fails.
pub async fn run<W: MessageWorker, A: Ambient>(worker: W, queue: SqsQueue, ambient: A) -> Result<(), Error> {
    let (worker, queue, ambient) = (&worker, &queue, &ambient);
    // Read here and not by the runtime, which may quote the event where it cannot read it.
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        let deadline = Instant::now() + time_left(event.context.deadline, USUAL_TIME);
        let batch: SqsEvent = serde_json::from_str(event.payload.get()).map_err(|_| NoBatch)?;
        Ok::<SqsBatchResponse, NoBatch>(batch::run(worker, queue, ambient, batch, deadline).await)
    }))
    .await
}

/// An event that is no batch of a queue: it is not this function's. Its content is not told.
#[derive(Debug, thiserror::Error)]
#[error("the event is not a batch of messages of a queue")]
struct NoBatch;

impl From<NoBatch> for Diagnostic {
    fn from(fault: NoBatch) -> Self {
        Self { error_type: "NoBatch".to_owned(), error_message: fault.to_string() }
    }
}

/// The time until a deadline in Unix milliseconds, for a function that the template gives `usual`. Nothing has been begun yet,
/// so about that much is left. Where it looks like more, or like less than half of it, the clock of a sandbox that has just
/// woken up is wrong, or the deadline is an emulator's: that is no reason to begin nothing, or to miss the end.
pub(crate) fn time_left(deadline: u64, usual: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    believable(Duration::from_millis(deadline).saturating_sub(now), usual)
}

fn believable(left: Duration, usual: Duration) -> Duration {
    if left < usual / 2 { usual } else { left.min(usual) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_was_over_before_the_beginning_is_not_believed() {
        assert_eq!(time_left(0, USUAL_TIME), USUAL_TIME);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let deadline = u64::try_from((now + Duration::from_secs(40)).as_millis()).unwrap();
        assert!((39..=40).contains(&time_left(deadline, USUAL_TIME).as_secs()));
    }

    #[test]
    fn a_clock_that_is_ahead_at_waking_takes_no_time_away_and_one_behind_adds_none() {
        let left = |seconds| believable(Duration::from_secs(seconds), USUAL_TIME).as_secs();
        assert_eq!([left(60), left(59), left(30)], [60, 59, 30]);
        assert_eq!([left(29), left(1), left(65), left(600)], [60; 4]);
    }
}
