//! The store of the relay on one machine.

use std::sync::Arc;

use jiff::SignedDuration;
use relay::delivery::Deliver as _;
use relay::ports::clock::Clock;
use relay::ports::fast_path::FastPath;
use relay::ports::queue::Queue;
use relay::ports::webhook_usage::WebhookLedger;
use relay_core::delivery::{DeliveryId, Direction};
use relay_sqlite::store::{
    self, ClaimOrder, ClaimedDelivery, DeliveryListItem, DeliveryState, ListFilter, RedriveOutcome, SqliteStore,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{CrashPoint, DeadLetterSnapshot, DeliverySnapshot, StoreHarness};
use crate::store_harness::scripted_destination::{ManualClock, ScriptedDestination};

/// A store in a folder of its own.
#[derive(Debug)]
pub struct SqliteHarness {
    folder: TempDir,
    clock: Arc<ManualClock>,
    store: SqliteStore,
}

impl SqliteHarness {
    fn open(folder: &TempDir, clock: &Arc<ManualClock>) -> SqliteStore {
        let opened = store::open(folder.path(), clock.now()).unwrap_or_else(|error| panic!("{error}"));
        let dyn_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        SqliteStore::new(opened, dyn_clock)
    }

    /// Claims the worker's next delivery.
    async fn claim(&self, direction: Direction) -> Option<ClaimedDelivery> {
        self.store.claim(direction, ClaimOrder::Oldest).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The store as an operator opens it beside the relay.
    fn operator_connection(&self) -> Connection {
        let connection = store::open_existing(self.folder.path()).unwrap_or_else(|error| panic!("{error}"));
        connection.unwrap_or_else(|| panic!("there is no store"))
    }

    fn list(&self, state: Option<DeliveryState>) -> Vec<DeliveryListItem> {
        store::list(&self.operator_connection(), &ListFilter { state, limit: u32::MAX })
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl StoreHarness for SqliteHarness {
    const RELEASES_EARLY: bool = true;

    async fn new() -> Self {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("{error}"));
        let clock = Arc::new(ManualClock::default());
        let store = Self::open(&folder, &clock);
        Self { folder, clock, store }
    }

    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.store
    }

    fn fast_path(&self) -> &impl FastPath {
        &self.store
    }

    fn webhook_usage(&self) -> &impl WebhookLedger {
        &self.store
    }

    async fn work(&mut self, destination: &ScriptedDestination) {
        for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
            while let Some(claimed) = self.claim(direction).await {
                let disposition = destination.deliver(&claimed.delivery, claimed.history).await;
                let settled = self.store.finish_attempt(&claimed.delivery.id, disposition).await;
                settled.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    async fn crash_during_work(&mut self, destination: &ScriptedDestination, crash_point: CrashPoint) {
        let claimed = self.claim(Direction::LoopsToClay).await;
        let claimed = claimed.unwrap_or_else(|| panic!("nothing is due"));
        let disposition = destination.deliver(&claimed.delivery, claimed.history).await;
        if crash_point == CrashPoint::AfterRecord {
            let settled = self.store.finish_attempt(&claimed.delivery.id, disposition).await;
            settled.unwrap_or_else(|error| panic!("{error}"));
        }
        self.store = Self::open(&self.folder, &self.clock);
    }

    async fn advance(&mut self, duration: SignedDuration) {
        self.clock.advance(duration);
        self.store.purge_delivered().await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn snapshot(&self, id: &DeliveryId) -> Option<DeliverySnapshot> {
        let report = self.list(None).into_iter().find(|report| report.id == id.as_str())?;
        Some(DeliverySnapshot {
            state: report.state.as_str().to_owned(),
            attempts: report.attempts,
            reason: report.reason.map(|reason| (reason, report.status)),
            first_attempt_at: report.first_attempt_at,
            last_attempt_at: report.last_attempt_at,
            failures: report.failures.into_iter().map(|each| ((each.reason, each.status), each.count.into())).collect(),
        })
    }

    async fn dead_letters(&self) -> Vec<DeadLetterSnapshot> {
        let snapshots = self.list(Some(DeliveryState::Dead)).into_iter().map(|report| DeadLetterSnapshot {
            id: report.id,
            reason: report.reason.unwrap_or_default(),
            status: report.status,
            attempts: report.attempts,
            received_at: report.received_at,
            dead_lettered_at: report.died_at.unwrap_or_default(),
        });
        snapshots.collect()
    }

    async fn redrive(&mut self, id: &DeliveryId) {
        let redriven = store::redrive(&mut self.operator_connection(), id.as_str(), true, self.clock.now());
        let redriven = redriven.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(redriven, RedriveOutcome::Requeued, "{id} is no dead letter");
    }
}
