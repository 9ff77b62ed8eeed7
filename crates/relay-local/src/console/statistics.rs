//! What this process has taken, delivered and refused: in its whole run, in the last hour, and in the last seconds. None of it is
//! personal, because an event has nothing personal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay::telemetry::event::{DeliveryEvent, EventOutcome, Stage};
use relay_console::advice;
use relay_console::view::{Minute, Refusal, RefusalCount};
use relay_core::delivery::Direction;
use relay_core::error::ErrorCode;
use tokio::sync::watch;

/// Minutes that are counted one by one.
const MINUTES: i64 = 60;
/// Seconds over which a rate is the mean.
const RATE_SECONDS: i32 = 10;
/// Refused requests that are listed one by one.
const MAX_REFUSALS: usize = 50;

/// The statistics of a process, and who waits for a change of them.
#[derive(Debug)]
pub(crate) struct Statistics {
    counts: Mutex<Counts>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Counts {
    since: Timestamp,
    minutes: VecDeque<Minute>,
    directions: PerDirection<DirectionCounts>,
    refusals: BTreeMap<ErrorCode, u64>,
    last_refusals: VecDeque<Refusal>,
}

/// A value for each direction.
#[derive(Debug, Default, Clone)]
pub(crate) struct PerDirection<T> {
    pub(crate) loops_to_clay: T,
    pub(crate) clay_to_loops: T,
}

impl<T> PerDirection<T> {
    pub(super) const fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::LoopsToClay => &self.loops_to_clay,
            Direction::ClayToLoops => &self.clay_to_loops,
        }
    }

    const fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::LoopsToClay => &mut self.loops_to_clay,
            Direction::ClayToLoops => &mut self.clay_to_loops,
        }
    }
}

/// What was counted of one direction.
#[derive(Debug, Default, Clone)]
pub(super) struct DirectionCounts {
    /// Requests that were accepted.
    pub(super) accepted: u64,
    /// Deliveries that the destination accepted.
    pub(super) delivered: u64,
    /// Deliveries in each of the last seconds, the newest last, as `(second, number)`.
    seconds: VecDeque<(i64, u32)>,
}

/// The statistics at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) since: Timestamp,
    pub(super) minutes: Vec<Minute>,
    pub(super) directions: PerDirection<DirectionCounts>,
    pub(super) refusals: Vec<RefusalCount>,
    pub(super) last_refusals: Vec<Refusal>,
}

impl Statistics {
    pub(crate) fn new(since: Timestamp) -> Self {
        let counts = Counts {
            since,
            minutes: VecDeque::new(),
            directions: PerDirection::default(),
            refusals: BTreeMap::new(),
            last_refusals: VecDeque::new(),
        };
        Self { counts: Mutex::new(counts), changes: watch::Sender::new(0) }
    }

    /// Records an event that happened now.
    pub(crate) fn record(&self, event: &DeliveryEvent<'_>) {
        self.record_at(event, Timestamp::now());
    }

    fn record_at(&self, event: &DeliveryEvent<'_>, now: Timestamp) {
        self.lock().record(event, now);
        self.notify();
    }

    /// Tells who follows that something has changed.
    pub(super) fn notify(&self) {
        if self.changes.receiver_count() > 0 {
            self.changes.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> Snapshot {
        let mut counts = self.lock();
        counts.minute(now);
        let mut refusals: Vec<RefusalCount> = counts
            .refusals
            .iter()
            .map(|(code, count)| RefusalCount {
                code: code.as_str().to_owned(),
                count: *count,
                advice: advice::for_refusal(*code),
            })
            .collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
        Snapshot {
            since: counts.since,
            minutes: counts.minutes.iter().copied().collect(),
            directions: counts.directions.clone(),
            refusals,
            last_refusals: counts.last_refusals.iter().rev().cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn record(&mut self, event: &DeliveryEvent<'_>, now: Timestamp) {
        let is_request = event.stage == Stage::Request;
        let is_delivered = matches!(event.outcome, EventOutcome::Delivered | EventOutcome::Duplicate);
        let is_accepted = is_request && (is_delivered || event.outcome == EventOutcome::Queued);
        let is_refused = event.outcome == EventOutcome::Refused;
        let direction = self.directions.of_mut(event.direction);
        direction.accepted += u64::from(is_accepted);
        if is_delivered {
            direction.delivered += 1;
            direction.count_second(now.as_second());
        }
        if let Some(minute) = self.minute(now) {
            minute.accepted += u64::from(is_accepted);
            minute.delivered += u64::from(is_delivered);
            minute.refused += u64::from(is_refused);
        }
        if let Some(code) = event.code.filter(|_| is_refused) {
            *self.refusals.entry(code).or_insert(0) += 1;
            if self.last_refusals.len() == MAX_REFUSALS {
                self.last_refusals.pop_front();
            }
            self.last_refusals.push_back(Refusal {
                at: now,
                direction: event.direction,
                code: code.as_str(),
                field: event.field.map(str::to_owned),
                id: event.delivery_id.to_owned(),
            });
        }
    }

    /// Returns the current minute, after those in which nothing happened.
    fn minute(&mut self, now: Timestamp) -> Option<&mut Minute> {
        let at = Timestamp::from_second(now.as_second().div_euclid(60) * 60).unwrap_or(now);
        let empty = |at| Minute { at, accepted: 0, delivered: 0, refused: 0 };
        let first = at - SignedDuration::from_mins(MINUTES - 1);
        self.minutes.retain(|minute| minute.at >= first && minute.at <= at);
        let mut next = self.minutes.back().map_or(first, |last| last.at + SignedDuration::from_mins(1));
        while next <= at {
            self.minutes.push_back(empty(next));
            next += SignedDuration::from_mins(1);
        }
        self.minutes.back_mut()
    }
}

impl DirectionCounts {
    fn count_second(&mut self, second: i64) {
        match self.seconds.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        self.seconds.retain(|(earlier, _)| (second - i64::from(RATE_SECONDS)..=second).contains(earlier));
    }

    /// Deliveries a second, over the last ten whole ones.
    pub(super) fn per_second(&self, now: Timestamp) -> f64 {
        let now = now.as_second();
        let recent = self.seconds.iter().filter(|(second, _)| (now - i64::from(RATE_SECONDS)..now).contains(second));
        f64::from(recent.map(|(_, count)| count).sum::<u32>()) / f64::from(RATE_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn event(stage: Stage, outcome: EventOutcome) -> DeliveryEvent<'static> {
        DeliveryEvent::new(Direction::LoopsToClay, stage, outcome, "clay_1")
    }

    #[test]
    fn delivery_counts_as_accepted_once_and_delivered_once() {
        let statistics = Statistics::new(at(0));
        statistics.record_at(&event(Stage::Request, EventOutcome::Queued), at(1));
        statistics.record_at(&event(Stage::Worker, EventOutcome::Retried), at(2));
        statistics.record_at(&event(Stage::Worker, EventOutcome::Delivered), at(3));
        let Snapshot { directions, minutes, .. } = statistics.snapshot(at(4));
        assert_eq!((directions.loops_to_clay.accepted, directions.loops_to_clay.delivered), (1, 1));
        let last = minutes.last().unwrap();
        assert_eq!((minutes.len(), last.accepted, last.delivered, last.refused), (60, 1, 1, 0));
    }

    #[test]
    fn minutes_without_events_are_zero_and_old_ones_go() {
        let statistics = Statistics::new(at(0));
        statistics.record_at(&event(Stage::Request, EventOutcome::Queued), at(0));
        let accepted = |second| {
            let minutes = statistics.snapshot(at(second)).minutes;
            (minutes.len(), minutes.iter().map(|minute| minute.accepted).sum::<u64>())
        };
        assert_eq!(accepted(59 * 60), (60, 1));
        assert_eq!(accepted(60 * 60), (60, 0));
        assert_eq!(accepted(100 * 3600), (60, 0));
    }

    #[test]
    fn clock_that_goes_back_leaves_sixty_minutes() {
        let statistics = Statistics::new(at(0));
        statistics.record_at(&event(Stage::Request, EventOutcome::Queued), at(7200));
        assert_eq!(statistics.snapshot(at(0)).minutes.len(), 60);
    }

    #[test]
    fn rate_is_the_mean_of_ten_whole_seconds() {
        let statistics = Statistics::new(at(0));
        for second in 0..20 {
            for _ in 0..8 {
                statistics.record_at(&event(Stage::Worker, EventOutcome::Delivered), at(second));
            }
        }
        let rate = |second| statistics.snapshot(at(second)).directions.loops_to_clay.per_second(at(second));
        assert!((rate(20) - 8.0).abs() < f64::EPSILON && rate(31) == 0.0, "{} {}", rate(20), rate(31));
    }

    #[test]
    fn refusals_are_counted_by_code_and_the_last_ones_listed() {
        let statistics = Statistics::new(at(0));
        for number in 0..60 {
            let code = if number < 10 { ErrorCode::InvalidJson } else { ErrorCode::InvalidToken };
            let refused = DeliveryEvent { code: Some(code), ..event(Stage::Request, EventOutcome::Refused) };
            statistics.record_at(&refused, at(number));
        }
        let Snapshot { refusals, last_refusals, .. } = statistics.snapshot(at(60));
        let counts: Vec<_> = refusals.iter().map(|refusal| (refusal.code.as_str(), refusal.count)).collect();
        assert_eq!(counts, [("invalid_token", 50), ("invalid_json", 10)]);
        assert_eq!((last_refusals.len(), last_refusals[0].at), (MAX_REFUSALS, at(59)));
    }
}
