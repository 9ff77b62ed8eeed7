//! The store of the relay on one machine.

use std::sync::Arc;

use jiff::SignedDuration;
use relay::ports::clock::Clock;
use relay::ports::queue::{Deliver as _, FastPath, Queue, WebhookLedger};
use relay_core::delivery::{DeliveryId, Direction};
use relay_sqlite::store::{
    self, ClaimOrder, ClaimedDelivery, DeliveryReport, DeliveryState, ListFilter, RedriveOutcome, SqliteStore,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{AnyStore, Known, Letter, Moment};
use crate::store_harness::scripted_destination::{End, ManualClock};

/// A store in a folder of its own.
#[derive(Debug)]
pub struct Sqlite {
    folder: TempDir,
    clock: Arc<ManualClock>,
    store: SqliteStore,
}

impl Sqlite {
    fn open(folder: &TempDir, clock: &Arc<ManualClock>) -> SqliteStore {
        let opened = store::open(folder.path(), clock.now()).unwrap_or_else(|error| panic!("{error}"));
        let ambient: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        SqliteStore::new(opened, ambient)
    }

    /// What a worker takes next.
    async fn claim(&self, direction: Direction) -> Option<ClaimedDelivery> {
        self.store.claim(direction, ClaimOrder::Oldest).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The store as an operator opens it beside the relay.
    fn beside(&self) -> Connection {
        let connection = store::open_existing(self.folder.path()).unwrap_or_else(|error| panic!("{error}"));
        connection.unwrap_or_else(|| panic!("there is no store"))
    }

    fn list(&self, state: Option<DeliveryState>) -> Vec<DeliveryReport> {
        store::list(&self.beside(), &ListFilter { state, limit: u32::MAX }).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl AnyStore for Sqlite {
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

    fn lane(&self) -> &impl FastPath {
        &self.store
    }

    fn webhooks(&self) -> &impl WebhookLedger {
        &self.store
    }

    async fn work(&mut self, end: &End) {
        for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
            while let Some(claimed) = self.claim(direction).await {
                let disposition = end.attempt(&claimed.delivery, claimed.history).await;
                let settled = self.store.finish_attempt(&claimed.delivery.id, disposition).await;
                settled.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    async fn work_and_die(&mut self, end: &End, moment: Moment) {
        let claimed = self.claim(Direction::LoopsToClay).await;
        let claimed = claimed.unwrap_or_else(|| panic!("nothing is due"));
        let disposition = end.attempt(&claimed.delivery, claimed.history).await;
        if moment == Moment::AfterTheRecord {
            let settled = self.store.finish_attempt(&claimed.delivery.id, disposition).await;
            settled.unwrap_or_else(|error| panic!("{error}"));
        }
        self.store = Self::open(&self.folder, &self.clock);
    }

    async fn let_pass(&mut self, time: SignedDuration) {
        self.clock.pass(time);
        self.store.purge_delivered().await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn known(&self, id: &DeliveryId) -> Option<Known> {
        let report = self.list(None).into_iter().find(|report| report.id == id.as_str())?;
        Some(Known {
            state: report.state.as_str().to_owned(),
            attempts: report.attempts,
            reason: report.reason.map(|reason| (reason, report.status)),
            first_attempt_at: report.first_attempt_at,
            last_attempt_at: report.last_attempt_at,
            failures: report.failures.into_iter().map(|each| ((each.reason, each.status), each.count.into())).collect(),
        })
    }

    async fn dead_letters(&self) -> Vec<Letter> {
        let letters = self.list(Some(DeliveryState::Dead)).into_iter().map(|report| Letter {
            id: report.id,
            reason: report.reason.unwrap_or_default(),
            status: report.status,
            attempts: report.attempts,
            received_at: report.received_at,
            died_at: report.died_at.unwrap_or_default(),
        });
        letters.collect()
    }

    async fn send_again(&mut self, id: &DeliveryId) {
        let revived = store::redrive(&mut self.beside(), id.as_str(), true, self.clock.now());
        let revived = revived.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(revived, RedriveOutcome::Waits, "{id} is no dead letter");
    }
}
