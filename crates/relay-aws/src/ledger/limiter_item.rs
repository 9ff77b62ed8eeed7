//! The rate limiter's item of a destination, and its updates.

use std::future::Future;

use jiff::{SignedDuration, Timestamp};
use relay::ports::queue::StoreError;

use crate::ledger::items::{NEXT_AT, PAUSED_AT, PAUSED_UNTIL, SLOW_UNTIL};
use crate::ledger::table::{Item, LedgerTable, Update, number_attr};

pub(crate) const LOOPS_LIMITER_KEY: &str = "pace#loops";
const CLAY_LIMITER_KEY: &str = "pace#clay";

/// The item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimiterItem {
    /// When the next call is due.
    pub next_at: Option<Timestamp>,
    /// Until when the destination is throttled.
    pub throttled_until: Option<Timestamp>,
    /// Until when calls are slowed down.
    pub slow_until: Option<Timestamp>,
    /// Whether an operator has paused this direction.
    pub paused: bool,
}

/// A conditional update of the item.
#[derive(Debug, Clone, Copy)]
pub enum LimiterUpdate {
    /// Adds to the time, if it is between `earliest` and `latest` and the destination is not throttled. Concurrent updates
    /// each get calls of their own.
    Advance {
        /// Earliest time of the next call; an earlier one has passed unused.
        earliest: Timestamp,
        /// Latest time of the next call.
        latest: Timestamp,
        /// Time that the calls take: an interval for each.
        by: SignedDuration,
    },
    /// Sets the time anew, if the item is unchanged.
    Reset {
        /// The item as it was read.
        expected: LimiterItem,
        /// The time of the next call.
        next_at: Timestamp,
    },
    /// Throttles the destination and then slows calls down, unless it is throttled for longer.
    Throttle {
        /// End of the throttling.
        until: Timestamp,
        /// End of the slowdown, if there is one.
        slow_until: Option<Timestamp>,
    },
}

/// Store of the item.
pub trait LimiterStore: Send + Sync {
    /// Reads the item.
    fn load(&self) -> impl Future<Output = Result<LimiterItem, StoreError>> + Send;

    /// Updates the item and returns it, or as an error the current item if the condition is false.
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
    /// Creates the store of Loops' item.
    pub const fn for_loops(table: LedgerTable) -> Self {
        Self { table, key: LOOPS_LIMITER_KEY }
    }

    /// Creates the store of Clay's item.
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

fn to_table_update(update: LimiterUpdate) -> Update {
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
    match update {
        LimiterUpdate::Advance { earliest, latest, by } => Update::default()
            .increase(NEXT_AT, i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
            .only_if(format!("{NEXT_AT} BETWEEN :from AND :latest"))
            .only_if(format!("attribute_not_exists({PAUSED_UNTIL}) OR {PAUSED_UNTIL} <= :from"))
            .bind("from", earliest.as_microsecond())
            .bind("latest", latest.as_microsecond()),
        LimiterUpdate::Reset { expected, next_at } => Update::default()
            .set(NEXT_AT, next_at.as_microsecond())
            .only_if_unchanged(NEXT_AT, micros(expected.next_at))
            .only_if_unchanged(PAUSED_UNTIL, micros(expected.throttled_until)),
        LimiterUpdate::Throttle { until, slow_until } => {
            let update = Update::default()
                .set(PAUSED_UNTIL, until.as_microsecond())
                .only_if(format!("attribute_not_exists({PAUSED_UNTIL}) OR {PAUSED_UNTIL} < :{PAUSED_UNTIL}"));
            micros(slow_until).into_iter().fold(update, |update, at| update.set(SLOW_UNTIL, at))
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
