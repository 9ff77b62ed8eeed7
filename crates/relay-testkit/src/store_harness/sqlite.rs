//! The store of the relay on one machine.

use std::sync::Arc;

use jiff::SignedDuration;
use relay::ports::clock::Ambient;
use relay::ports::queue::{Attempt as _, DirectLane, Queue, WebhookLedger};
use relay_core::delivery::{DeliveryId, Direction};
use relay_sqlite::store::{self, Claimed, DeliveryReport, DeliveryState, Filter, First, Revival, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{AnyStore, Known, Letter, Moment};
use crate::store_harness::scripted_destination::{Clock, End};

/// A store in a folder of its own.
#[derive(Debug)]
pub struct Sqlite {
    folder: TempDir,
    clock: Arc<Clock>,
    store: SqliteStore,
}

impl Sqlite {
    fn open(folder: &TempDir, clock: &Arc<Clock>) -> SqliteStore {
        let opened = store::open(folder.path(), clock.now()).unwrap_or_else(|fault| panic!("{fault}"));
        let ambient: Arc<dyn Ambient> = Arc::<Clock>::clone(clock);
        SqliteStore::new(opened, ambient)
    }

    /// What a worker takes next.
    async fn claim(&self, direction: Direction) -> Option<Claimed> {
        self.store.claim(direction, First::LongestDue).await.unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// The store as an operator opens it beside the relay.
    fn beside(&self) -> Connection {
        let connection = store::open_existing(self.folder.path()).unwrap_or_else(|fault| panic!("{fault}"));
        connection.unwrap_or_else(|| panic!("there is no store"))
    }

    fn list(&self, state: Option<DeliveryState>) -> Vec<DeliveryReport> {
        store::list(&self.beside(), &Filter { state, limit: u32::MAX }).unwrap_or_else(|fault| panic!("{fault}"))
    }
}

impl AnyStore for Sqlite {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap_or_else(|fault| panic!("{fault}"));
        let clock = Arc::new(Clock::default());
        let store = Self::open(&folder, &clock);
        Self { folder, clock, store }
    }

    fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.store
    }

    fn lane(&self) -> &impl DirectLane {
        &self.store
    }

    fn webhooks(&self) -> &impl WebhookLedger {
        &self.store
    }

    async fn work(&mut self, end: &End) {
        for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
            while let Some(claimed) = self.claim(direction).await {
                let disposition = end.attempt(&claimed.delivery, claimed.history).await;
                let settled = self.store.settle(&claimed.delivery.id, disposition).await;
                settled.unwrap_or_else(|fault| panic!("{fault}"));
            }
        }
    }

    async fn work_and_die(&mut self, end: &End, moment: Moment) {
        let claimed = self.claim(Direction::LoopsToClay).await;
        let claimed = claimed.unwrap_or_else(|| panic!("nothing is due"));
        let disposition = end.attempt(&claimed.delivery, claimed.history).await;
        if moment == Moment::AfterTheRecord {
            let settled = self.store.settle(&claimed.delivery.id, disposition).await;
            settled.unwrap_or_else(|fault| panic!("{fault}"));
        }
        self.store = Self::open(&self.folder, &self.clock);
    }

    async fn let_pass(&mut self, time: SignedDuration) {
        self.clock.pass(time);
        self.store.forget_old().await.unwrap_or_else(|fault| panic!("{fault}"));
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
        let revived = store::revive(&mut self.beside(), id.as_str(), true, self.clock.now());
        let revived = revived.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(revived, Revival::Waits, "{id} is no dead letter");
    }
}
