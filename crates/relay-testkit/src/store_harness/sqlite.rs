//! The store of the relay on one machine.

use std::sync::Arc;

use jiff::SignedDuration;
use relay::delivery::Deliver as _;
use relay::ports::accounts::AccountLedger;
use relay::ports::admin::{Admin as _, DeliveryQuery, DeliveryRecord};
use relay::ports::clock::Clock;
use relay::ports::dead_letters::{DeadLetterQueue as _, RedriveOptions, RedriveOutcome};
use relay::ports::delivery_status::DeliveryStatusSource;
use relay::ports::queue::Queue;
use relay::ports::row_intake::RowIntake;
use relay::ports::webhook_usage::WebhookLedger;
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use relay_sqlite::admin::{SqliteAdmin, SqliteDeadLetters};
use relay_sqlite::{ClaimOrder, ClaimedDelivery, SqliteStore};
use tempfile::TempDir;

use super::{CrashPoint, DeadLetterSnapshot, DeliverySnapshot, StoreHarness};
use crate::store_harness::scripted_destination::{ManualClock, ScriptedDestination};

/// More deliveries than any test has.
const MAX_LISTED: u32 = 10_000;

/// A store in a folder of its own.
#[derive(Debug)]
pub struct SqliteHarness {
    folder: TempDir,
    clock: Arc<ManualClock>,
    store: SqliteStore,
}

impl SqliteHarness {
    fn open(folder: &TempDir, clock: &Arc<ManualClock>) -> SqliteStore {
        let opened = relay_sqlite::open(folder.path(), clock.now()).unwrap_or_else(|error| panic!("{error}"));
        let dyn_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        SqliteStore::new(opened, dyn_clock)
    }

    /// Claims the worker's next delivery.
    async fn claim(&self, direction: Direction) -> Option<ClaimedDelivery> {
        let claimed = self.store.claim(direction, ClaimOrder::Oldest, 1).await;
        claimed.unwrap_or_else(|error| panic!("{error}")).pop()
    }

    /// The deliveries as an operator lists them beside the relay.
    async fn list(&self, state: Option<DeliveryState>) -> Vec<DeliveryRecord> {
        let admin = SqliteAdmin::open(self.folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let query = DeliveryQuery { state, ..DeliveryQuery::default() };
        admin.latest_deliveries(&query, MAX_LISTED, &|_| ()).await.unwrap_or_else(|error| panic!("{error}"))
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

    fn intake(&self) -> &impl RowIntake {
        &self.store
    }

    fn accounts(&self) -> &impl AccountLedger {
        &self.store
    }

    fn statuses(&self) -> &impl DeliveryStatusSource {
        &self.store
    }

    fn webhook_usage(&self) -> &impl WebhookLedger {
        &self.store
    }

    async fn work(&mut self, destination: &ScriptedDestination) {
        for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
            while let Some(claimed) = self.claim(direction).await {
                let finished = tokio::select! {
                    finished = destination.deliver(&claimed.delivery, claimed.history) => finished,
                    () = destination.wait_until_hung() => {
                        self.store = Self::open(&self.folder, &self.clock);
                        return;
                    }
                };
                let settled = self.store.finish_attempt(&claimed.delivery.id, finished).await;
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
        let report = self.list(None).await.into_iter().find(|report| report.id == id.as_str())?;
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
        let snapshots = self.list(Some(DeliveryState::Dead)).await.into_iter().map(|report| DeadLetterSnapshot {
            id: report.id,
            reason: report.reason.unwrap_or_default(),
            status: report.status,
            attempts: report.attempts,
            received_at: report.received_at.unwrap_or_default(),
            dead_lettered_at: report.died_at.unwrap_or_default(),
        });
        snapshots.collect()
    }

    async fn redrive(&mut self, id: &DeliveryId) {
        let dyn_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let queue = SqliteDeadLetters::open(self.folder.path(), dyn_clock);
        let mut queue = queue.unwrap_or_else(|error| panic!("{error}"));
        let page = queue.next_page().await.unwrap_or_else(|error| panic!("{error}"));
        let dead_letter = page.iter().find(|dead_letter| dead_letter.id() == id.as_str());
        let dead_letter = dead_letter.unwrap_or_else(|| panic!("{id} is no dead letter"));
        let options = RedriveOptions { even_if_older: true, ..RedriveOptions::default() };
        let redriven = queue.redrive(dead_letter, options).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(redriven, RedriveOutcome::Redriven, "{id} is no dead letter");
    }

    async fn kill_callers(&mut self) {
        self.store = Self::open(&self.folder, &self.clock);
    }
}
