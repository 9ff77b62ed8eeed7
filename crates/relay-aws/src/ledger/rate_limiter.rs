//! The pace of calls to one end, kept across every sandbox: Clay may run a hundred of them at once, and Loops takes ten
//! calls a second for the whole team; two workers send to Clay, and where one waits for answers the other has its turns.
//!
//! One item of the ledger says when the next call may be made ("generic cell rate algorithm": one time is the whole
//! state). Whoever wants to call moves that time on by one interval; while it is in the future, this is an addition, so
//! that nobody gets in anybody's way. Who waits moves it further into the future and sleeps until then; so, while workers
//! have much to send, callers that wait for a moment only find no room, and join the queue behind them.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay::destination::http_client::DestinationResponse;
use relay::ports::clock::Clock;
use relay::ports::queue::StoreError;
use relay::rate_limit::limiter::{
    LocalRateLimiter, MAX_PERMIT_WAIT, PERMIT_TTL, Permit, RateLimiter, Readiness, Unavailable, burst_size,
};
use relay_core::policy::retry;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::ledger::limiter_item::{DynamoLimiterStore, LimiterItem, LimiterStore, LimiterUpdate};

/// How often the item is asked for a turn: it may be another one than was seen, then it may have been idle, and somebody
/// else may have begun meanwhile.
const MAX_CAS_ATTEMPTS: u32 = 4;
/// The longest that a worker waits for its turn: two workers with ten groups each stand in line, at two calls a second or
/// more. Who would wait longer comes back.
const MAX_WAIT: SignedDuration = SignedDuration::from_secs(12);
/// How far ahead the next call may be due, at the most: the longest wait, and then some for clocks that differ. A time beyond
/// that was written by a sandbox whose clock was wrong, and nobody waits for it.
const MAX_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// How long everybody calls at a third of the pace after others were seen to need the room. That is seen only when there is
/// none left, which is a call or two too late: it must not be tried out too often.
const SLOW_FOR: Duration = Duration::from_secs(20);
const SLOWDOWN_FACTOR: i32 = 3;

/// The pace of all sandboxes.
#[derive(Debug)]
pub struct DistributedRateLimiter<A, I = DynamoLimiterStore> {
    item: I,
    ambient: A,
    /// The pace of this sandbox, which is never faster, and spares a call where this sandbox alone is too fast already.
    own: LocalRateLimiter,
    interval: SignedDuration,
    /// How far ahead of its time a call may be made.
    ahead: SignedDuration,
    /// The most calls that all sandboxes together make within one second.
    max_rps: u32,
    /// The item as it was seen last. One at a time asks, so that a sandbox does not get in its own way.
    last_seen: Mutex<LimiterItem>,
}

/// What came of asking for room.
enum Reservation {
    /// The call may be made at that time.
    From(Timestamp),
    /// There is no room before that time.
    Full(Timestamp),
}

impl<A: Clock, I: LimiterStore> DistributedRateLimiter<A, I> {
    /// At most `per_second` calls a second from all sandboxes together.
    pub fn new(item: I, per_second: NonZeroU32, ambient: A) -> Self {
        let interval = SignedDuration::from_secs(1) / i32::try_from(per_second.get()).unwrap_or(i32::MAX);
        let burst = burst_size(per_second).get();
        let spare = i32::try_from(burst.saturating_sub(1)).unwrap_or_default();
        let own = LocalRateLimiter::new(per_second);
        let most = per_second.get().saturating_add(burst);
        Self { item, ambient, own, interval, ahead: interval * spare, max_rps: most, last_seen: Mutex::default() }
    }

    /// Asks for room until `latest` from now.
    async fn reserve(&self, latest: SignedDuration) -> Result<Reservation, StoreError> {
        let mut seen = self.last_seen.lock().await;
        // Whether the item was seen just now.
        let mut fresh = false;
        for _ in 0..MAX_CAS_ATTEMPTS {
            let now = micros(self.ambient.now());
            let from = self.from(*seen, now);
            if from > now + latest {
                if fresh {
                    return Ok(Reservation::Full(from));
                }
                (*seen, fresh) = (self.item.read().await?, true);
                continue;
            }
            let slow = seen.slow_until.is_some_and(|until| from < until);
            let interval = if slow { self.interval * SLOWDOWN_FACTOR } else { self.interval };
            let due = plausible_next_at(*seen, now);
            let idle = due.is_none_or(|at| at < now) || seen.paused_until.is_some_and(|until| until > now);
            let change = if idle {
                LimiterUpdate::Reset { seen: *seen, next_at: due.unwrap_or(from).max(from) + interval }
            } else {
                LimiterUpdate::Advance { from: now, latest: now + latest + self.ahead, interval }
            };
            match self.item.change(change, now).await? {
                Ok(changed) => {
                    *seen = changed;
                    let due = changed.next_at.unwrap_or(now) - interval;
                    let from = (due - self.ahead).max(now).max(changed.paused_until.unwrap_or(now));
                    return Ok(Reservation::From(from));
                }
                Err(found) => (*seen, fresh) = (found, true),
            }
        }
        // So many others are asking that there is no room.
        Ok(Reservation::Full(self.ambient.now() + self.interval))
    }

    /// When a call may be made: as early as the burst allows, but not while the end is left alone.
    fn from(&self, seen: LimiterItem, now: Timestamp) -> Timestamp {
        let due = plausible_next_at(seen, now).unwrap_or(now);
        (due - self.ahead).max(now).max(seen.paused_until.unwrap_or(now))
    }

    /// Tells everybody to leave the end alone, and to call it more slowly then.
    async fn throttle_all(&self, pause: Duration, slow: Option<Duration>) {
        self.own.throttle_for(pause).await;
        let now = self.ambient.now();
        let until = micros(retry::add_saturating(now, pause));
        let slow_until = slow.map(|slow| micros(retry::add_saturating(now, slow)));
        let mut seen = self.last_seen.lock().await;
        match self.item.change(LimiterUpdate::Throttle { until, slow_until }, now).await {
            Ok(Ok(kept) | Err(kept)) => *seen = kept,
            Err(error) => warn!(%error, "the others could not be told to leave the end alone"),
        }
    }

    fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.ambient.now())).unwrap_or_default()
    }
}

impl<A: Clock, I: LimiterStore> RateLimiter for DistributedRateLimiter<A, I> {
    async fn acquire(&self) -> Result<(), Unavailable> {
        loop {
            self.own.acquire().await?;
            match self.reserve(MAX_WAIT).await {
                Ok(Reservation::From(at)) => {
                    let turn = Instant::now() + self.until(at);
                    tokio::time::sleep_until(turn).await;
                    if Instant::now().saturating_duration_since(turn) > PERMIT_TTL {
                        continue;
                    }
                }
                Ok(Reservation::Full(at)) => return Err(Unavailable::Throttled(self.until(at))),
                // The worker could write its record, so this passes; its own pace is kept meanwhile.
                Err(error) => warn!(%error, "the pace of all cannot be read: this sandbox keeps its own"),
            }
            // It may have said meanwhile that it is full.
            if !matches!(self.own.readiness(), Readiness::LeftAlone(Unavailable::Throttled(_))) {
                return Ok(());
            }
        }
    }

    async fn try_acquire(&self) -> Option<Permit> {
        let turn = self.own.try_acquire().await?;
        match self.reserve(SignedDuration::try_from(MAX_PERMIT_WAIT).unwrap_or_default()).await {
            // What a worker has in hand is sent all the same.
            Ok(Reservation::From(_)) if self.last_seen.lock().await.stopped => None,
            Ok(Reservation::From(at)) => Some(turn.max(Instant::now() + self.until(at))),
            Ok(Reservation::Full(_)) => None,
            Err(error) => {
                warn!(%error, "the pace of all cannot be read: the row joins the queue");
                None
            }
        }
    }

    async fn throttle_for(&self, pause: Duration) {
        self.throttle_all(pause, None).await;
    }

    async fn record(&self, answer: &DestinationResponse) {
        self.own.note_outcome(answer);
        // What other sandboxes call is not known here: as many as the pace allows may be the relay's own.
        if let Some(pause) = answer.rate_limit.and_then(|room| room.throttle_hint(self.max_rps)) {
            self.throttle_all(pause, Some(SLOW_FOR)).await;
        }
    }

    fn readiness(&self) -> Readiness {
        self.own.readiness()
    }

    fn succeeded_within(&self, period: Duration) -> bool {
        self.own.succeeded_within(period)
    }
}

/// When the next call is due, where that can be.
fn plausible_next_at(seen: LimiterItem, now: Timestamp) -> Option<Timestamp> {
    seen.next_at.filter(|at| *at <= now + MAX_SKEW)
}

/// The time as the item keeps it.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
