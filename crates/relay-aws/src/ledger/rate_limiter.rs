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
use relay::destination::http_client::FarAnswer;
use relay::ports::clock::Ambient;
use relay::ports::queue::StoreFault;
use relay::rate_limit::limiter::{LeftAlone, PATIENCE, Pace, ProcessPace, Readiness, TURN_LASTS, Turn, burst};
use relay_core::policy::retry;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::ledger::limiter_item::{Kept, PaceChange, PaceInTable, PaceItem};

/// How often the item is asked for a turn: it may be another one than was seen, then it may have been idle, and somebody
/// else may have begun meanwhile.
const TRIES: u32 = 4;
/// The longest that a worker waits for its turn: two workers with ten groups each stand in line, at two calls a second or
/// more. Who would wait longer comes back.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(12);
/// How far ahead the next call may be due, at the most: the longest wait, and then some for clocks that differ. A time beyond
/// that was written by a sandbox whose clock was wrong, and nobody waits for it.
const FARTHEST: SignedDuration = SignedDuration::from_secs(60);
/// How long everybody calls at a third of the pace after others were seen to need the room. That is seen only when there is
/// none left, which is a call or two too late: it must not be tried out too often.
const SLOW_FOR: Duration = Duration::from_secs(20);
const SLOWED: i32 = 3;

/// The pace of all sandboxes.
#[derive(Debug)]
pub struct SharedPace<A, I = PaceInTable> {
    item: I,
    ambient: A,
    /// The pace of this sandbox, which is never faster, and spares a call where this sandbox alone is too fast already.
    own: ProcessPace,
    interval: SignedDuration,
    /// How far ahead of its time a call may be made.
    ahead: SignedDuration,
    /// The most calls that all sandboxes together make within one second.
    most: u32,
    /// The item as it was seen last. One at a time asks, so that a sandbox does not get in its own way.
    seen: Mutex<Kept>,
}

/// What came of asking for room.
enum Asked {
    /// The call may be made at that time.
    From(Timestamp),
    /// There is no room before that time.
    Full(Timestamp),
}

impl<A: Ambient, I: PaceItem> SharedPace<A, I> {
    /// At most `per_second` calls a second from all sandboxes together.
    pub fn new(item: I, per_second: NonZeroU32, ambient: A) -> Self {
        let interval = SignedDuration::from_secs(1) / i32::try_from(per_second.get()).unwrap_or(i32::MAX);
        let burst = burst(per_second).get();
        let spare = i32::try_from(burst.saturating_sub(1)).unwrap_or_default();
        let own = ProcessPace::new(per_second);
        let most = per_second.get().saturating_add(burst);
        Self { item, ambient, own, interval, ahead: interval * spare, most, seen: Mutex::default() }
    }

    /// Asks for room until `latest` from now.
    async fn ask(&self, latest: SignedDuration) -> Result<Asked, StoreFault> {
        let mut seen = self.seen.lock().await;
        // Whether the item was seen just now.
        let mut fresh = false;
        for _ in 0..TRIES {
            let now = micros(self.ambient.now());
            let from = self.from(*seen, now);
            if from > now + latest {
                if fresh {
                    return Ok(Asked::Full(from));
                }
                (*seen, fresh) = (self.item.read().await?, true);
                continue;
            }
            let slow = seen.slow_until.is_some_and(|until| from < until);
            let interval = if slow { self.interval * SLOWED } else { self.interval };
            let due = believed(*seen, now);
            let idle = due.is_none_or(|at| at < now) || seen.paused_until.is_some_and(|until| until > now);
            let change = if idle {
                PaceChange::Begin { seen: *seen, next_at: due.unwrap_or(from).max(from) + interval }
            } else {
                PaceChange::Step { from: now, latest: now + latest + self.ahead, interval }
            };
            match self.item.change(change, now).await? {
                Ok(changed) => {
                    *seen = changed;
                    let due = changed.next_at.unwrap_or(now) - interval;
                    let from = (due - self.ahead).max(now).max(changed.paused_until.unwrap_or(now));
                    return Ok(Asked::From(from));
                }
                Err(found) => (*seen, fresh) = (found, true),
            }
        }
        // So many others are asking that there is no room.
        Ok(Asked::Full(self.ambient.now() + self.interval))
    }

    /// When a call may be made: as early as the burst allows, but not while the end is left alone.
    fn from(&self, seen: Kept, now: Timestamp) -> Timestamp {
        let due = believed(seen, now).unwrap_or(now);
        (due - self.ahead).max(now).max(seen.paused_until.unwrap_or(now))
    }

    /// Tells everybody to leave the end alone, and to call it more slowly then.
    async fn tell(&self, pause: Duration, slow: Option<Duration>) {
        self.own.pause(pause).await;
        let now = self.ambient.now();
        let until = micros(retry::after(now, pause));
        let slow_until = slow.map(|slow| micros(retry::after(now, slow)));
        let mut seen = self.seen.lock().await;
        match self.item.change(PaceChange::Pause { until, slow_until }, now).await {
            Ok(Ok(kept) | Err(kept)) => *seen = kept,
            Err(fault) => warn!(%fault, "the others could not be told to leave the end alone"),
        }
    }

    fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.ambient.now())).unwrap_or_default()
    }
}

impl<A: Ambient, I: PaceItem> Pace for SharedPace<A, I> {
    async fn wait(&self) -> Result<(), LeftAlone> {
        loop {
            self.own.wait().await?;
            match self.ask(LONGEST_WAIT).await {
                Ok(Asked::From(at)) => {
                    let turn = Instant::now() + self.until(at);
                    tokio::time::sleep_until(turn).await;
                    if Instant::now().saturating_duration_since(turn) > TURN_LASTS {
                        continue;
                    }
                }
                Ok(Asked::Full(at)) => return Err(LeftAlone::Full(self.until(at))),
                // The worker could write its record, so this passes; its own pace is kept meanwhile.
                Err(fault) => warn!(%fault, "the pace of all cannot be read: this sandbox keeps its own"),
            }
            // It may have said meanwhile that it is full.
            if !matches!(self.own.readiness(), Readiness::LeftAlone(LeftAlone::Full(_))) {
                return Ok(());
            }
        }
    }

    async fn try_take(&self) -> Option<Turn> {
        let turn = self.own.try_take().await?;
        match self.ask(SignedDuration::try_from(PATIENCE).unwrap_or_default()).await {
            // What a worker has in hand is sent all the same.
            Ok(Asked::From(_)) if self.seen.lock().await.stopped => None,
            Ok(Asked::From(at)) => Some(turn.or_later(Instant::now() + self.until(at))),
            Ok(Asked::Full(_)) => None,
            Err(fault) => {
                warn!(%fault, "the pace of all cannot be read: the row joins the queue");
                None
            }
        }
    }

    async fn pause(&self, pause: Duration) {
        self.tell(pause, None).await;
    }

    async fn note(&self, answer: &FarAnswer) {
        self.own.note_outcome(answer);
        // What other sandboxes call is not known here: as many as the pace allows may be the relay's own.
        if let Some(pause) = answer.room.and_then(|room| room.pause(self.most)) {
            self.tell(pause, Some(SLOW_FOR)).await;
        }
    }

    fn readiness(&self) -> Readiness {
        self.own.readiness()
    }

    fn took_within(&self, period: Duration) -> bool {
        self.own.took_within(period)
    }
}

/// When the next call is due, where that can be.
fn believed(seen: Kept, now: Timestamp) -> Option<Timestamp> {
    seen.next_at.filter(|at| *at <= now + FARTHEST)
}

/// The time as the item keeps it.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
