//! The queues: their lengths, the age of their oldest message, their workers, and their dead letters.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use jiff::{SignedDuration, Timestamp};
use relay_aws::admin::{message_count, queue_name};
use relay_core::delivery::Direction;
use relay_doctor::check::Check;
use relay_doctor::finding::Finding;
use relay_doctor::invocation::suggest;

use crate::aws::pause;
use crate::aws::stack::StackOutput;
use crate::doctor::report::{finding_from_error, finding_from_result};
use crate::error::Error;
use crate::target::StackTarget;

/// How far back CloudWatch is asked for the age of a queue: its figures come late.
const AGE_LOOKBACK: SignedDuration = SignedDuration::from_mins(15);

/// A direction with the names of its checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueChecks {
    queue: Check,
    worker: Check,
    dead_letters: Check,
    direction: Direction,
}

pub(crate) const QUEUES: [QueueChecks; 2] = [
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

impl QueueChecks {
    /// The three findings about the queue of a direction.
    pub(crate) async fn examine(self, target: &StackTarget) -> [Finding; 3] {
        [
            finding_from_result(self.queue, self.check_queue(target).await),
            finding_from_result(self.worker, self.check_worker(target).await),
            finding_from_result(self.dead_letters, self.check_dead_letters(target).await),
        ]
    }

    /// `…-queue`: how much waits, and for how long.
    async fn check_queue(self, target: &StackTarget) -> Result<Finding, Error> {
        let (queue, _) = StackOutput::queues(self.direction);
        let waiting = message_count(&target.session.clients().sqs(), target.stack.output(queue)?).await?;
        if waiting == 0 {
            return Ok(self.queue.ok("empty"));
        }
        let limit: f64 =
            target.stack.parameter("QueueAgeAlarmSeconds").and_then(|text| text.parse().ok()).unwrap_or(1800.0);
        let count = format!("{waiting} waiting");
        Ok(match oldest_message_age(target, queue).await {
            Ok(Some(seconds)) if seconds > limit => self.queue.warn(
                format!("{count}, the oldest for {seconds:.0} s"),
                format!("see {} for why, and {} below", suggest("deliveries --state waiting"), self.worker),
            ),
            Ok(Some(seconds)) => self.queue.ok(format!("{count}, the oldest for {seconds:.0} s")),
            Ok(None) => self.queue.ok(format!("{count}; CloudWatch has no age yet")),
            Err(error) => {
                let finding = finding_from_error(self.queue, &error);
                let observed = format!("{count}; for how long is not known, because {}", finding.observed);
                Finding { observed, ..finding }
            }
        })
    }

    /// `…-worker`: SQS hands the messages of the queue to the function.
    async fn check_worker(self, target: &StackTarget) -> Result<Finding, Error> {
        let (function, direction) = (pause::worker_function(target, self.direction), self.direction.as_str());
        let mapping = pause::event_source_mapping(target, self.direction).await?;
        let resume = suggest(format_args!("resume {direction}"));
        Ok(match mapping.as_ref().and_then(|mapping| mapping.state()) {
            Some("Enabled" | "Enabling" | "Creating" | "Updating") => {
                match pause::fast_path_paused_since(target, self.direction).await? {
                    None => self.worker.ok(format!("{function} takes what is in the queue")),
                    Some(_) => self.worker.warn(
                        "rows join the queue instead of going to Loops at once: a pause has ended only in part",
                        format!("run {resume} again"),
                    ),
                }
            }
            Some(state) => self.worker.warn(
                format!("deliveries {direction} are paused: the event source of {function} is {state}"),
                format!("when that is meant to end, run {resume}"),
            ),
            None => self.worker.fail(
                format!("nothing hands the queue to {function}"),
                "docs/runbook.md, \"A part of the stack is gone\", says how it comes back",
            ),
        })
    }

    /// `…-dead-letters`: what could not be delivered.
    async fn check_dead_letters(self, target: &StackTarget) -> Result<Finding, Error> {
        let (_, dead_letters) = StackOutput::queues(self.direction);
        Ok(match message_count(&target.session.clients().sqs(), target.stack.output(dead_letters)?).await? {
            0 => self.dead_letters.ok("none"),
            count => self.dead_letters.warn(
                format!("{count} could not be delivered; each is kept for 14 days"),
                format!("see {} for why, mend that, and retry them", suggest("dead-letters list")),
            ),
        })
    }
}

/// Returns the age of a queue's oldest message in seconds, if CloudWatch has it. SQS itself has no such attribute.
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
