//! The queues: what waits, for how long, whether anybody takes it, and what died.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use jiff::{SignedDuration, Timestamp};
use relay_aws::admin::{message_count, queue_name};
use relay_core::delivery::Direction;

use crate::aws::pause;
use crate::aws::stack::{QueueOutputs, StackOutput};
use crate::doctor::check::Check;
use crate::doctor::finding::Finding;
use crate::error::Error;
use crate::target::StackTarget;

/// How far back CloudWatch is asked for a queue's age: its figures come late.
const AGE_LOOKBACK: SignedDuration = SignedDuration::from_mins(15);

/// A direction, with its checks' names.
#[derive(Debug, Clone, Copy)]
pub struct QueueChecks {
    queue: Check,
    worker: Check,
    dead_letters: Check,
    direction: Direction,
}

/// Both directions.
pub const QUEUES: [QueueChecks; 2] = [
    QueueChecks {
        queue: Check::ClayQueue,
        worker: Check::ClayWorker,
        dead_letters: Check::ClayDeadLetters,
        direction: Direction::LoopsToClay,
    },
    QueueChecks {
        queue: Check::LoopsQueue,
        worker: Check::LoopsWorker,
        dead_letters: Check::LoopsDeadLetters,
        direction: Direction::ClayToLoops,
    },
];

/// `…-queue`: how much waits, and for how long.
pub async fn check_queue(target: &StackTarget, checks: QueueChecks) -> Finding {
    let lookup = async {
        let QueueOutputs { queue, .. } = QueueOutputs::of_direction(checks.direction);
        let waiting = count_messages(target, queue).await?;
        Ok::<_, Error>((waiting, if waiting == 0 { Ok(None) } else { oldest_message_age(target, queue).await }))
    };
    let (waiting, oldest) = match lookup.await {
        Ok(found) => found,
        Err(error) => return Finding::from_error(checks.queue, &error),
    };
    let limit: f64 =
        target.stack.parameter("QueueAgeAlarmSeconds").and_then(|text| text.parse().ok()).unwrap_or(1800.0);
    let count = format!("{waiting} waiting");
    match oldest {
        _ if waiting == 0 => Finding::ok(checks.queue, "empty"),
        Ok(Some(seconds)) if seconds > limit => Finding::warn(
            checks.queue,
            format!("{count}, the oldest for {seconds:.0} s"),
            format!("see `relayctl deliveries --state waiting` for why, and {} below", checks.worker),
        ),
        Ok(Some(seconds)) => Finding::ok(checks.queue, format!("{count}, the oldest for {seconds:.0} s")),
        Ok(None) => Finding::ok(checks.queue, format!("{count}; CloudWatch has no age yet")),
        Err(error) => {
            let finding = Finding::from_error(checks.queue, &error);
            Finding { observed: format!("{count}; for how long is not known, because {}", finding.observed), ..finding }
        }
    }
}

/// `…-worker`: the function that delivers is handed what is in the queue.
pub async fn check_worker(target: &StackTarget, checks: QueueChecks) -> Finding {
    let (function, direction) = (pause::worker_function(target, checks.direction), checks.direction.as_str());
    let call = target.session.call("lambda:ListEventSourceMappings", function.as_str());
    let response = target.session.lambda().list_event_source_mappings().function_name(&function).send().await;
    let mappings = match response {
        Ok(response) => response.event_source_mappings.unwrap_or_default(),
        Err(error) => return Finding::from_error(checks.worker, &call.to_error(&error).into()),
    };
    match mappings.first().and_then(|mapping| mapping.state.as_deref()) {
        Some("Enabled" | "Enabling" | "Creating" | "Updating") => {
            match pause::fast_path_paused_since(target, checks.direction).await {
                Ok(None) => Finding::ok(checks.worker, format!("{function} takes what is in the queue")),
                Ok(Some(_)) => Finding::warn(
                    checks.worker,
                    "rows join the queue instead of going to Loops at once: a pause has ended only in part",
                    format!("run `relayctl resume {direction}` again"),
                ),
                Err(error) => Finding::from_error(checks.worker, &error.into()),
            }
        }
        Some(state) => Finding::warn(
            checks.worker,
            format!("deliveries {direction} are paused: the event source of {function} is {state}"),
            format!("when that is meant to end, run `relayctl resume {direction}`"),
        ),
        None => Finding::fail(
            checks.worker,
            format!("nothing hands the queue to {function}"),
            "docs/runbook.md, \"A part of the stack is gone\", says how it comes back",
        ),
    }
}

/// `…-dead-letters`: what could not be delivered.
pub async fn check_dead_letters(target: &StackTarget, checks: QueueChecks) -> Finding {
    match count_messages(target, QueueOutputs::of_direction(checks.direction).dead_letters).await {
        Ok(0) => Finding::ok(checks.dead_letters, "none"),
        Ok(count) => Finding::warn(
            checks.dead_letters,
            format!("{count} could not be delivered; each is kept for 14 days"),
            "see `relayctl dead-letters list` for why, mend that, and retry them",
        ),
        Err(error) => Finding::from_error(checks.dead_letters, &error),
    }
}

async fn count_messages(target: &StackTarget, queue: StackOutput) -> Result<u64, Error> {
    Ok(message_count(&target.session.clients().sqs(), target.stack.output(queue)?).await?)
}

/// The age of a queue's oldest message, in seconds, if CloudWatch has it. SQS itself does not tell.
async fn oldest_message_age(target: &StackTarget, queue: StackOutput) -> Result<Option<f64>, Error> {
    let name = queue_name(target.stack.output(queue)?);
    let now = Timestamp::now();
    let to_datetime = |time: Timestamp| DateTime::from_secs(time.as_second());
    let call = target.session.call("cloudwatch:GetMetricStatistics", name);
    let response = target
        .session
        .cloudwatch()
        .get_metric_statistics()
        .namespace("AWS/SQS")
        .metric_name("ApproximateAgeOfOldestMessage")
        .dimensions(Dimension::builder().name("QueueName").value(name).build())
        .start_time(to_datetime(now.checked_sub(AGE_LOOKBACK).unwrap_or(now)))
        .end_time(to_datetime(now.checked_add(SignedDuration::from_mins(1)).unwrap_or(now)))
        .period(60)
        .statistics(Statistic::Maximum)
        .send()
        .await
        .map_err(|error| call.to_error(&error))?;
    let mut datapoints = response.datapoints.unwrap_or_default();
    datapoints.sort_by_key(|point| point.timestamp.map(|at| at.secs()));
    Ok(datapoints.last().and_then(|point| point.maximum))
}
