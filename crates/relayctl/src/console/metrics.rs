//! The counts of the last hour, from CloudWatch. `GetMetricStatistics` is part of the free requests, which `GetMetricData` is
//! not (CloudWatch pricing, "API").

use std::cmp::Reverse;
use std::collections::BTreeMap;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use jiff::{SignedDuration, Timestamp};
use relay::telemetry::metric::{ACCEPTED, CAUSE, DELIVERED, DIRECTION, DUPLICATE, REFUSAL_CAUSES, REFUSED};
use relay_aws::admin::queue_name;
use relay_console::advice::for_cause;
use relay_console::view::{Minute, RefusalCount};
use relay_core::delivery::Direction;

use crate::aws::error::Error;
use crate::aws::stack::StackOutput;
use crate::target::StackTarget;

const PERIOD_SECS: i32 = 60;
const MINUTES: i64 = 60;

/// The counts of a stack's last hour.
#[derive(Debug)]
pub(super) struct LastHour {
    /// The minute in which it begins, in Unix seconds.
    begin: i64,
    directions: BTreeMap<Direction, DirectionHour>,
    refused: Vec<(&'static str, Counts)>,
}

/// The counts of one direction.
#[derive(Debug, Default)]
struct DirectionHour {
    accepted: Counts,
    delivered: Counts,
    oldest_seconds: Option<f64>,
}

/// Counts by the Unix second in which their minute begins.
type Counts = BTreeMap<i64, f64>;

impl LastHour {
    /// Reads it.
    ///
    /// # Errors
    /// When CloudWatch denies or throttles a call.
    pub(super) async fn read(target: &StackTarget) -> Result<Self, Error> {
        let end = Timestamp::now().as_second() / i64::from(PERIOD_SECS) * i64::from(PERIOD_SECS);
        let begin = end - (MINUTES - 1) * i64::from(PERIOD_SECS);
        let namespace = target.stack.name.as_str();
        let count = async |name, dimension, value| {
            read(target, begin, (namespace, name), (dimension, value), Statistic::Sum).await
        };
        let mut directions = BTreeMap::new();
        for direction in Direction::ALL {
            let accepted = count(ACCEPTED, DIRECTION, direction.as_str()).await?;
            let mut delivered = count(DELIVERED, DIRECTION, direction.as_str()).await?;
            for (minute, duplicates) in count(DUPLICATE, DIRECTION, direction.as_str()).await? {
                *delivered.entry(minute).or_default() += duplicates;
            }
            let queue = queue_name(target.stack.output(StackOutput::queues(direction).0)?);
            let metric = ("AWS/SQS", "ApproximateAgeOfOldestMessage");
            let ages = read(target, begin, metric, ("QueueName", queue), Statistic::Maximum).await?;
            let oldest_seconds = ages.last_key_value().map(|(_, age)| *age);
            directions.insert(direction, DirectionHour { accepted, delivered, oldest_seconds });
        }
        let mut refused = Vec::new();
        for cause in REFUSAL_CAUSES {
            refused.push((cause, count(REFUSED, CAUSE, cause).await?));
        }
        Ok(Self { begin, directions, refused })
    }

    /// When it begins.
    pub(super) fn since(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.begin).ok()
    }

    /// Number of requests of a direction that were accepted.
    pub(super) fn accepted(&self, direction: Direction) -> u64 {
        self.directions.get(&direction).map(|hour| total(&hour.accepted)).unwrap_or_default()
    }

    /// Number of deliveries of a direction that the destination accepted.
    pub(super) fn delivered(&self, direction: Direction) -> u64 {
        self.directions.get(&direction).map(|hour| total(&hour.delivered)).unwrap_or_default()
    }

    /// Age of the oldest message of a direction's queue, in seconds.
    pub(super) fn oldest_seconds(&self, direction: Direction) -> Option<f64> {
        self.directions.get(&direction)?.oldest_seconds
    }

    /// Deliveries of a direction a second, over the last full minute.
    pub(super) fn per_second(&self, direction: Direction) -> f64 {
        let last_full = self.begin + (MINUTES - 2) * i64::from(PERIOD_SECS);
        let delivered = self.directions.get(&direction).and_then(|hour| hour.delivered.get(&last_full));
        delivered.copied().unwrap_or_default() / f64::from(PERIOD_SECS)
    }

    /// The causes of refusals, the most frequent first.
    pub(super) fn refusals(&self) -> Vec<RefusalCount> {
        let counts = self.refused.iter().map(|(cause, counts)| RefusalCount {
            code: (*cause).to_owned(),
            count: total(counts),
            advice: for_cause(cause),
        });
        let mut counts: Vec<RefusalCount> = counts.filter(|refusal| refusal.count > 0).collect();
        counts.sort_by_key(|refusal| Reverse(refusal.count));
        counts
    }

    /// Its minutes, the oldest first.
    pub(super) fn minutes(&self) -> Vec<Minute> {
        let minute = |number: i64| {
            let begin = self.begin + number * i64::from(PERIOD_SECS);
            let of = |counts: &Counts| to_count(counts.get(&begin).copied().unwrap_or_default());
            Some(Minute {
                at: Timestamp::from_second(begin).ok()?,
                accepted: self.directions.values().map(|hour| of(&hour.accepted)).sum(),
                delivered: self.directions.values().map(|hour| of(&hour.delivered)).sum(),
                refused: self.refused.iter().map(|(_, counts)| of(counts)).sum(),
            })
        };
        (0..MINUTES).filter_map(minute).collect()
    }
}

fn total(counts: &Counts) -> u64 {
    to_count(counts.values().sum())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of counts is a count")]
fn to_count(sum: f64) -> u64 {
    sum.round() as u64
}

/// Reads a metric of each minute since `begin`.
async fn read(
    target: &StackTarget,
    begin: i64,
    (namespace, name): (&str, &str),
    (dimension, value): (&str, &str),
    statistic: Statistic,
) -> Result<Counts, Error> {
    let call = target.session.call("cloudwatch:GetMetricStatistics", name);
    let end = Timestamp::now() + SignedDuration::from_secs(PERIOD_SECS.into());
    let request = target
        .session
        .cloudwatch()
        .get_metric_statistics()
        .namespace(namespace)
        .metric_name(name)
        .dimensions(Dimension::builder().name(dimension).value(value).build())
        .start_time(DateTime::from_secs(begin))
        .end_time(DateTime::from_secs(end.as_second()))
        .period(PERIOD_SECS)
        .statistics(statistic);
    let response = request.send().await.map_err(|error| call.to_error(&error))?;
    let points = response.datapoints.unwrap_or_default().into_iter();
    Ok(points.filter_map(|point| Some((point.timestamp?.secs(), point.sum.or(point.maximum)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_hour() -> LastHour {
        let begin = 1_800_000_000;
        let counts = |pairs: &[(i64, f64)]| pairs.iter().map(|(minute, sum)| (begin + minute * 60, *sum)).collect();
        let to_clay = DirectionHour {
            accepted: counts(&[(0, 3.0), (59, 4.0)]),
            delivered: counts(&[(58, 120.0)]),
            oldest_seconds: None,
        };
        let to_loops = DirectionHour { accepted: counts(&[(59, 5.0)]), ..DirectionHour::default() };
        LastHour {
            begin,
            directions: [(Direction::LoopsToClay, to_clay), (Direction::ClayToLoops, to_loops)].into(),
            refused: vec![("token", counts(&[(59, 1.0)])), ("loops", Counts::new()), ("request", counts(&[(0, 2.0)]))],
        }
    }

    #[test]
    fn minutes_are_sixty_and_add_both_directions() {
        let minutes = last_hour().minutes();
        assert_eq!((minutes.len(), minutes[0].at.as_second()), (60, 1_800_000_000));
        let counts = |index: usize| (minutes[index].accepted, minutes[index].delivered, minutes[index].refused);
        assert_eq!((counts(0), counts(1), counts(58), counts(59)), ((3, 0, 2), (0, 0, 0), (0, 120, 0), (9, 0, 1)));
    }

    #[test]
    fn totals_and_rate_are_of_each_direction() {
        let (hour, [to_clay, to_loops]) = (last_hour(), Direction::ALL);
        assert_eq!((hour.accepted(to_clay), hour.accepted(to_loops), hour.delivered(to_clay)), (7, 5, 120));
        assert_eq!([to_clay, to_loops].map(|direction| hour.per_second(direction).to_string()), ["2", "0"]);
    }

    #[test]
    fn refusals_are_those_that_occurred_most_frequent_first() {
        let refusals = last_hour().refusals();
        let counted: Vec<_> = refusals.iter().map(|refusal| (refusal.code.as_str(), refusal.count)).collect();
        assert_eq!(counted, [("request", 2), ("token", 1)]);
    }
}
