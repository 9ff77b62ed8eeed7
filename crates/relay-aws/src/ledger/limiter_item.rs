//! The one item of each end that says when the next call to it may be made, and what is done to that item.

use std::future::Future;

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;

use crate::ledger::items::{NEXT_AT, PAUSED_AT, PAUSED_UNTIL, SLOW_UNTIL};
use crate::ledger::table::{Item, LedgerTable, Update, number_attr};

/// The key of Loops' item.
pub const LOOPS_LIMITER_KEY: &str = "pace#loops";
/// The key of Clay's item.
const CLAY_LIMITER_KEY: &str = "pace#clay";
/// The item as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimiterItem {
    /// When the next call is due.
    pub next_at: Option<Timestamp>,
    /// Until when the end is left alone.
    pub throttled_until: Option<Timestamp>,
    /// Until when it is called more slowly.
    pub slow_until: Option<Timestamp>,
    /// Whether a person has stopped this direction.
    pub paused: bool,
}

/// A change of the item, made only where it is as that change needs it.
#[derive(Debug, Clone, Copy)]
pub enum LimiterUpdate {
    /// The time is moved on by an interval, wherever it is, if it is from `from` to `latest`, and nobody is to leave the
    /// end alone: however many do this at once, each gets a turn of its own.
    Advance {
        /// The earliest that the time may be: what is before that is no turn any more.
        earliest: Timestamp,
        /// The latest.
        latest: Timestamp,
        /// How far it is moved.
        interval: SignedDuration,
    },
    /// The time is set anew, if the item is as it was seen.
    Reset {
        /// How it was seen.
        expected: LimiterItem,
        /// The time.
        next_at: Timestamp,
    },
    /// The end is left alone until then, and called more slowly until another time, if it is not left alone for longer.
    Throttle {
        /// Until when nobody calls.
        until: Timestamp,
        /// Until when everybody calls more slowly, if they do.
        slow_until: Option<Timestamp>,
    },
}

/// Where the item is kept.
pub trait LimiterStore: Send + Sync {
    /// The item as it is.
    fn load(&self) -> impl Future<Output = Result<LimiterItem, StoreError>> + Send;

    /// Changes the item and gives it as it is then; or, as an error, as it is where it is not as the change needs it.
    fn update(
        &self,
        update: LimiterUpdate,
        now: Timestamp,
    ) -> impl Future<Output = Result<Result<LimiterItem, LimiterItem>, StoreError>> + Send;
}

/// An item of the ledger's table.
#[derive(Debug, Clone)]
pub struct DynamoLimiterStore {
    table: LedgerTable,
    key: &'static str,
}

impl DynamoLimiterStore {
    /// The pace towards Loops.
    #[must_use]
    pub const fn for_loops(table: LedgerTable) -> Self {
        Self { table, key: LOOPS_LIMITER_KEY }
    }

    /// The pace towards Clay.
    #[must_use]
    pub const fn for_clay(table: LedgerTable) -> Self {
        Self { table, key: CLAY_LIMITER_KEY }
    }
}

impl LimiterStore for DynamoLimiterStore {
    async fn load(&self) -> Result<LimiterItem, StoreError> {
        Ok(limiter_item(&self.table.get(self.key).await?))
    }

    async fn update(
        &self,
        change: LimiterUpdate,
        now: Timestamp,
    ) -> Result<Result<LimiterItem, LimiterItem>, StoreError> {
        let updated = self.table.update_or_current(self.key, to_table_update(change), now).await?;
        Ok(updated.map(|item| limiter_item(&item)).map_err(|item| limiter_item(&item)))
    }
}

fn to_table_update(limiter_update: LimiterUpdate) -> Update {
    match limiter_update {
        LimiterUpdate::Advance { earliest, latest, interval } => Update::new("SET next_at = next_at + :interval")
            .condition(
                "next_at BETWEEN :from AND :latest AND (attribute_not_exists(paused_until) OR paused_until <= :from)",
            )
            .number_attr(":interval", i64::try_from(interval.as_micros()).unwrap_or(i64::MAX))
            .number_attr(":from", earliest.as_microsecond())
            .number_attr(":latest", latest.as_microsecond()),
        LimiterUpdate::Reset { expected, next_at } => {
            let table_update = Update::new("SET next_at = :next").number_attr(":next", next_at.as_microsecond());
            let table_update = table_update.condition(match (expected.next_at, expected.throttled_until) {
                (None, None) => "attribute_not_exists(next_at) AND attribute_not_exists(paused_until)",
                (Some(_), None) => "next_at = :seen AND attribute_not_exists(paused_until)",
                (None, Some(_)) => "attribute_not_exists(next_at) AND paused_until = :paused",
                (Some(_), Some(_)) => "next_at = :seen AND paused_until = :paused",
            });
            let table_update = expected
                .next_at
                .into_iter()
                .fold(table_update, |change, at| change.number_attr(":seen", at.as_microsecond()));
            let throttled_until = expected.throttled_until.into_iter();
            throttled_until.fold(table_update, |change, at| change.number_attr(":paused", at.as_microsecond()))
        }
        LimiterUpdate::Throttle { until, slow_until } => {
            let expression = match slow_until {
                None => "SET paused_until = :until",
                Some(_) => "SET paused_until = :until, slow_until = :slow",
            };
            let table_update = Update::new(expression)
                .condition("attribute_not_exists(paused_until) OR paused_until < :until")
                .number_attr(":until", until.as_microsecond());
            slow_until.into_iter().fold(table_update, |change, at| change.number_attr(":slow", at.as_microsecond()))
        }
    }
}

fn limiter_item(item: &Item) -> LimiterItem {
    let at = |name| number_attr(item, name).and_then(|at| Timestamp::from_microsecond(at).ok());
    LimiterItem {
        next_at: at(NEXT_AT),
        throttled_until: at(PAUSED_UNTIL),
        slow_until: at(SLOW_UNTIL),
        paused: item.contains_key(PAUSED_AT),
    }
}
