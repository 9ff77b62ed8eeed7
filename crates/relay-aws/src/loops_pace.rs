//! The pace of calls to Loops, kept across every sandbox: Clay may run a hundred of them at once, and Loops takes ten
//! calls a second for the whole team.
//!
//! One item of the ledger says when the next call may be made ("generic cell rate algorithm": one time is the whole
//! state). Whoever wants to call moves that time on by one interval, on the condition that nobody else has moved it
//! meanwhile. Who waits moves it into the future and sleeps until then; so, while workers have much to send, callers that
//! do not wait find no room, and join the queue behind them.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay::ambient::Ambient;
use relay::pace::{LeftAlone, Pace, ProcessPace, Readiness, burst};
use relay::store::StoreFault;
use relay_core::backoff;
use relay_core::decision::Outcome;
use tokio::sync::Mutex;
use tracing::warn;

use crate::table::{Change, Item, LedgerTable, number};

/// The item's key.
pub const PACE_KEY: &str = "pace#loops";
/// Its attribute, there while a person has stopped this direction: rows join the queue, whose worker is stopped as well. It
/// is not a time until when Loops is left alone: what a worker has in hand is to be sent, and not to be hidden until then.
pub const STOPPED_AT: &str = "stopped_at";
/// How often the time is moved on again when somebody else has moved it meanwhile.
const TRIES: u32 = 6;
/// The longest that a worker waits for its turn: two workers with ten groups each stand in line, at two calls a second or
/// more. Who would wait longer comes back.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(12);

/// The pace of all sandboxes.
#[derive(Debug)]
pub struct LoopsPace<A> {
    table: LedgerTable,
    ambient: A,
    /// The pace of this sandbox, which is never faster, and spares a call where this sandbox alone is too fast already.
    own: ProcessPace,
    interval: SignedDuration,
    /// How far ahead of its time a call may be made.
    ahead: SignedDuration,
    /// One at a time asks, so that a sandbox does not get in its own way.
    seen: Mutex<Seen>,
}

/// The item as it was seen last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    next_at: Option<Timestamp>,
    paused_until: Option<Timestamp>,
    /// Whether a person has stopped this direction.
    stopped: bool,
}

/// What came of asking for room.
enum Asked {
    /// The call may be made at that time.
    From(Timestamp),
    /// There is no room before that time.
    Full(Timestamp),
}

impl<A: Ambient> LoopsPace<A> {
    /// At most `per_second` calls a second from all sandboxes together.
    pub fn new(table: LedgerTable, per_second: NonZeroU32, ambient: A) -> Self {
        let interval = SignedDuration::from_secs(1) / i32::try_from(per_second.get()).unwrap_or(i32::MAX);
        let spare = i32::try_from(burst(per_second).get().saturating_sub(1)).unwrap_or_default();
        let own = ProcessPace::new(per_second);
        Self { table, ambient, own, interval, ahead: interval * spare, seen: Mutex::default() }
    }

    /// Asks for room until `latest` from now.
    async fn ask(&self, latest: SignedDuration) -> Result<Asked, StoreFault> {
        let mut seen = self.seen.lock().await;
        for _ in 0..TRIES {
            let now = micros(self.ambient.now());
            let due = seen.next_at.unwrap_or(now).max(now);
            // As early as the burst allows, but not while Loops is left alone.
            let from = (due - self.ahead).max(now).max(seen.paused_until.unwrap_or(now));
            if from > now + latest {
                let known = *seen;
                *seen = self.read().await?;
                if *seen == known {
                    return Ok(Asked::Full(from));
                }
                continue;
            }
            let next_at = due.max(from) + self.interval;
            if let Some(item) = self.move_on(*seen, next_at, now).await? {
                *seen = Seen { next_at: Some(next_at), stopped: item.contains_key(STOPPED_AT), ..*seen };
                return Ok(Asked::From(from));
            }
            *seen = self.read().await?;
        }
        // So many others are asking that there is no room.
        Ok(Asked::Full(self.ambient.now() + self.interval))
    }

    /// Moves the time on and gives the item as it is then; nothing where it is not as it was seen.
    async fn move_on(&self, seen: Seen, next_at: Timestamp, now: Timestamp) -> Result<Option<Item>, StoreFault> {
        let change = Change::new("SET next_at = :next").number(":next", next_at.as_microsecond());
        let change = change.only_if(match (seen.next_at, seen.paused_until) {
            (None, None) => "attribute_not_exists(next_at) AND attribute_not_exists(paused_until)",
            (Some(_), None) => "next_at = :seen AND attribute_not_exists(paused_until)",
            (None, Some(_)) => "attribute_not_exists(next_at) AND paused_until = :paused",
            (Some(_), Some(_)) => "next_at = :seen AND paused_until = :paused",
        });
        let change = seen.next_at.into_iter().fold(change, |change, at| change.number(":seen", at.as_microsecond()));
        let paused = seen.paused_until.into_iter();
        let change = paused.fold(change, |change, at| change.number(":paused", at.as_microsecond()));
        self.table.change(PACE_KEY, change, now).await
    }

    async fn read(&self) -> Result<Seen, StoreFault> {
        let item = self.table.get(PACE_KEY).await?;
        let at = |name| number(&item, name).and_then(|at| Timestamp::from_microsecond(at).ok());
        Ok(Seen { next_at: at("next_at"), paused_until: at("paused_until"), stopped: item.contains_key(STOPPED_AT) })
    }

    fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.ambient.now())).unwrap_or_default()
    }
}

impl<A: Ambient> Pace for LoopsPace<A> {
    async fn wait(&self) -> Result<(), LeftAlone> {
        self.own.wait().await?;
        match self.ask(LONGEST_WAIT).await {
            Ok(Asked::From(at)) => {
                tokio::time::sleep(self.until(at)).await;
                Ok(())
            }
            Ok(Asked::Full(at)) => Err(LeftAlone::Full(self.until(at))),
            Err(fault) => {
                // The worker could write its record, so this passes; its own pace is kept meanwhile.
                warn!(%fault, "the pace of all cannot be read: this sandbox keeps its own");
                Ok(())
            }
        }
    }

    async fn try_take(&self) -> bool {
        if !self.own.try_take().await {
            return false;
        }
        match self.ask(SignedDuration::ZERO).await {
            Ok(Asked::From(_)) => !self.seen.lock().await.stopped,
            Ok(Asked::Full(_)) => false,
            Err(fault) => {
                warn!(%fault, "the pace of all cannot be read: the row joins the queue");
                false
            }
        }
    }

    async fn pause(&self, pause: Duration) {
        self.own.pause(pause).await;
        let now = self.ambient.now();
        let until = micros(backoff::after(now, pause));
        let change = Change::new("SET paused_until = :until")
            .only_if("attribute_not_exists(paused_until) OR paused_until < :until")
            .number(":until", until.as_microsecond());
        let mut seen = self.seen.lock().await;
        match self.table.change(PACE_KEY, change, now).await {
            Ok(_) => seen.paused_until = seen.paused_until.max(Some(until)),
            Err(fault) => warn!(%fault, "the others could not be told to leave Loops alone"),
        }
    }

    fn note(&self, outcome: Outcome) {
        self.own.note(outcome);
    }

    fn readiness(&self) -> Readiness {
        self.own.readiness()
    }
}

/// The time as the item keeps it.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
