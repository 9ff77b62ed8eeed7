//! The queues: what waits, for how long, whether anybody takes it, and what died.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use jiff::{SignedDuration, Timestamp};
use relay_core::delivery::Direction;

use crate::aws::pause;
use crate::aws::stack::StackOutput;
use crate::doctor::check::Check;
use crate::doctor::finding::Finding;
use crate::error::Error;
use crate::operations::stack::{approximate_len, queue_name, queue_urls};
use crate::target::StackTarget;

/// How far back CloudWatch is asked for a queue's age: its figures come late.
const AGE_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// A direction, with its checks' names.
#[derive(Debug, Clone, Copy)]
pub struct QueueChecks {
    queue: Check,
    paused: Check,
    dead_letters: Check,
    direction: Direction,
}

/// Both directions.
pub const QUEUES: [QueueChecks; 2] = [
    QueueChecks {
        queue: Check::ClayQueue,
        paused: Check::ClayWorker,
        dead_letters: Check::ClayDeadLetters,
        direction: Direction::LoopsToClay,
    },
    QueueChecks {
        queue: Check::LoopsQueue,
        paused: Check::LoopsWorker,
        dead_letters: Check::LoopsDeadLetters,
        direction: Direction::ClayToLoops,
    },
];

/// `…-queue`: how much waits, and for how long.
pub async fn queue(target: &StackTarget, way: QueueChecks) -> Finding {
    let looked = async {
        let (queue, _) = queue_urls(way.direction);
        let waiting = approximate_len(target, queue).await?;
        Ok::<_, Error>((waiting, if waiting == 0 { Ok(None) } else { oldest(target, queue).await }))
    };
    let (waiting, oldest) = match looked.await {
        Ok(seen) => seen,
        Err(error) => return Finding::of(way.queue, &error),
    };
    let limit: f64 =
        target.stack.parameter("QueueAgeAlarmSeconds").and_then(|text| text.parse().ok()).unwrap_or(1800.0);
    let count = format!("{waiting} waiting");
    match oldest {
        _ if waiting == 0 => Finding::ok(way.queue, "empty"),
        Ok(Some(seconds)) if seconds > limit => Finding::warn(
            way.queue,
            format!("{count}, the oldest for {seconds:.0} s"),
            format!("see `relayctl deliveries --state waiting` for why, and {} below", way.paused),
        ),
        Ok(Some(seconds)) => Finding::ok(way.queue, format!("{count}, the oldest for {seconds:.0} s")),
        Ok(None) => Finding::ok(way.queue, format!("{count}; CloudWatch has no age yet")),
        Err(error) => {
            let finding = Finding::of(way.queue, &error);
            Finding { observed: format!("{count}; for how long is not known, because {}", finding.observed), ..finding }
        }
    }
}

/// `…-worker`: the function that delivers is handed what is in the queue.
pub async fn worker(target: &StackTarget, way: QueueChecks) -> Finding {
    let (function, direction) = (pause::worker(target, way.direction), way.direction.as_str());
    let call = target.session.call("lambda:ListEventSourceMappings", function.as_str());
    let answer = target.session.lambda().list_event_source_mappings().function_name(&function).send().await;
    let mappings = match answer {
        Ok(answer) => answer.event_source_mappings.unwrap_or_default(),
        Err(error) => return Finding::of(way.paused, &call.to_error(&error)),
    };
    match mappings.first().and_then(|mapping| mapping.state.as_deref()) {
        Some("Enabled" | "Enabling" | "Creating" | "Updating") => {
            match pause::fast_path_paused_since(target, way.direction).await {
                Ok(None) => Finding::ok(way.paused, format!("{function} takes what is in the queue")),
                Ok(Some(_)) => Finding::warn(
                    way.paused,
                    "rows join the queue instead of going to Loops at once: a pause has ended only in part",
                    format!("run `relayctl resume {direction}` again"),
                ),
                Err(error) => Finding::of(way.paused, &error),
            }
        }
        Some(state) => Finding::warn(
            way.paused,
            format!("deliveries {direction} are paused: the event source of {function} is {state}"),
            format!("when that is meant to end, run `relayctl resume {direction}`"),
        ),
        None => Finding::fail(
            way.paused,
            format!("nothing hands the queue to {function}"),
            "docs/runbook.md, \"A part of the stack is gone\", says how it comes back",
        ),
    }
}

/// `…-dead-letters`: what could not be delivered.
pub async fn dead_letters(target: &StackTarget, way: QueueChecks) -> Finding {
    match approximate_len(target, queue_urls(way.direction).1).await {
        Ok(0) => Finding::ok(way.dead_letters, "none"),
        Ok(number) => Finding::warn(
            way.dead_letters,
            format!("{number} could not be delivered; each is kept for 14 days"),
            "see `relayctl dead-letters list` for why, mend that, and retry them",
        ),
        Err(error) => Finding::of(way.dead_letters, &error),
    }
}

/// The age of a queue's oldest message, in seconds, if CloudWatch has it. SQS itself does not tell.
async fn oldest(target: &StackTarget, queue: StackOutput) -> Result<Option<f64>, Error> {
    let name = queue_name(target.stack.output(queue)?);
    let now = Timestamp::now();
    let at = |time: Timestamp| DateTime::from_secs(time.as_second());
    let call = target.session.call("cloudwatch:GetMetricStatistics", name);
    let answer = target
        .session
        .cloudwatch()
        .get_metric_statistics()
        .namespace("AWS/SQS")
        .metric_name("ApproximateAgeOfOldestMessage")
        .dimensions(Dimension::builder().name("QueueName").value(name).build())
        .start_time(at(now.checked_sub(AGE_WITHIN).unwrap_or(now)))
        .end_time(at(now.checked_add(SignedDuration::from_mins(1)).unwrap_or(now)))
        .period(60)
        .statistics(Statistic::Maximum)
        .send()
        .await
        .map_err(|error| call.to_error(&error))?;
    let mut points = answer.datapoints.unwrap_or_default();
    points.sort_by_key(|point| point.timestamp.map(|at| at.secs()));
    Ok(points.last().and_then(|point| point.maximum))
}
