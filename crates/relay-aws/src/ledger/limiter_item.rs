//! The one item of each end that says when the next call to it may be made, and what is done to that item.

use std::future::Future;

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreFault;

use crate::ledger::table::{Change, Item, LedgerTable, number};

/// The key of Loops' item.
pub const LOOPS_PACE_KEY: &str = "pace#loops";
/// The key of Clay's item.
const CLAY_PACE_KEY: &str = "pace#clay";
/// Its attribute, there while a person has stopped this direction: rows join the queue, whose worker is stopped as well. It
/// is not a time until when the end is left alone: what a worker has in hand is to be sent, and not to be hidden until then.
pub const STOPPED_AT: &str = "stopped_at";

/// The item as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// When the next call is due.
    pub next_at: Option<Timestamp>,
    /// Until when the end is left alone.
    pub paused_until: Option<Timestamp>,
    /// Until when it is called more slowly.
    pub slow_until: Option<Timestamp>,
    /// Whether a person has stopped this direction.
    pub stopped: bool,
}

/// A change of the item, made only where it is as that change needs it.
#[derive(Debug, Clone, Copy)]
pub enum PaceChange {
    /// The time is moved on by an interval, wherever it is, if it is from `from` to `latest`, and nobody is to leave the
    /// end alone: however many do this at once, each gets a turn of its own.
    Step {
        /// The earliest that the time may be: what is before that is no turn any more.
        from: Timestamp,
        /// The latest.
        latest: Timestamp,
        /// How far it is moved.
        interval: SignedDuration,
    },
    /// The time is set anew, if the item is as it was seen.
    Begin {
        /// How it was seen.
        seen: Kept,
        /// The time.
        next_at: Timestamp,
    },
    /// The end is left alone until then, and called more slowly until another time, if it is not left alone for longer.
    Pause {
        /// Until when nobody calls.
        until: Timestamp,
        /// Until when everybody calls more slowly, if they do.
        slow_until: Option<Timestamp>,
    },
}

/// Where the item is kept.
pub trait PaceItem: Send + Sync {
    /// The item as it is.
    fn read(&self) -> impl Future<Output = Result<Kept, StoreFault>> + Send;

    /// Changes the item and gives it as it is then; or, as an error, as it is where it is not as the change needs it.
    fn change(
        &self,
        change: PaceChange,
        now: Timestamp,
    ) -> impl Future<Output = Result<Result<Kept, Kept>, StoreFault>> + Send;
}

/// An item of the ledger's table.
#[derive(Debug, Clone)]
pub struct PaceInTable {
    table: LedgerTable,
    key: &'static str,
}

impl PaceInTable {
    /// The pace towards Loops.
    #[must_use]
    pub const fn to_loops(table: LedgerTable) -> Self {
        Self { table, key: LOOPS_PACE_KEY }
    }

    /// The pace towards Clay.
    #[must_use]
    pub const fn to_clay(table: LedgerTable) -> Self {
        Self { table, key: CLAY_PACE_KEY }
    }
}

impl PaceItem for PaceInTable {
    async fn read(&self) -> Result<Kept, StoreFault> {
        Ok(kept(&self.table.get(self.key).await?))
    }

    async fn change(&self, change: PaceChange, now: Timestamp) -> Result<Result<Kept, Kept>, StoreFault> {
        let changed = self.table.change_or_see(self.key, as_update(change), now).await?;
        Ok(changed.map(|item| kept(&item)).map_err(|item| kept(&item)))
    }
}

fn as_update(change: PaceChange) -> Change {
    match change {
        PaceChange::Step { from, latest, interval } => Change::new("SET next_at = next_at + :interval")
            .only_if(
                "next_at BETWEEN :from AND :latest AND (attribute_not_exists(paused_until) OR paused_until <= :from)",
            )
            .number(":interval", i64::try_from(interval.as_micros()).unwrap_or(i64::MAX))
            .number(":from", from.as_microsecond())
            .number(":latest", latest.as_microsecond()),
        PaceChange::Begin { seen, next_at } => {
            let change = Change::new("SET next_at = :next").number(":next", next_at.as_microsecond());
            let change = change.only_if(match (seen.next_at, seen.paused_until) {
                (None, None) => "attribute_not_exists(next_at) AND attribute_not_exists(paused_until)",
                (Some(_), None) => "next_at = :seen AND attribute_not_exists(paused_until)",
                (None, Some(_)) => "attribute_not_exists(next_at) AND paused_until = :paused",
                (Some(_), Some(_)) => "next_at = :seen AND paused_until = :paused",
            });
            let change =
                seen.next_at.into_iter().fold(change, |change, at| change.number(":seen", at.as_microsecond()));
            let paused = seen.paused_until.into_iter();
            paused.fold(change, |change, at| change.number(":paused", at.as_microsecond()))
        }
        PaceChange::Pause { until, slow_until } => {
            let update = match slow_until {
                None => "SET paused_until = :until",
                Some(_) => "SET paused_until = :until, slow_until = :slow",
            };
            let change = Change::new(update)
                .only_if("attribute_not_exists(paused_until) OR paused_until < :until")
                .number(":until", until.as_microsecond());
            slow_until.into_iter().fold(change, |change, at| change.number(":slow", at.as_microsecond()))
        }
    }
}

fn kept(item: &Item) -> Kept {
    let at = |name| number(item, name).and_then(|at| Timestamp::from_microsecond(at).ok());
    Kept {
        next_at: at("next_at"),
        paused_until: at("paused_until"),
        slow_until: at("slow_until"),
        stopped: item.contains_key(STOPPED_AT),
    }
}
