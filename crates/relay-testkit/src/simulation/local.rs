//! The relay of one machine, without its sockets.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use relay::ports::clock::SharedClock;
use relay_core::delivery::Direction;
use relay_core::row::RowKind;
use relay_local::app::Relay;
use relay_local::worker;
use relay_sqlite::SqliteStore;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{RelayUnderTest, SimulatedClock, keys, settings};
use crate::simulation::simulated_destination::{DestinationState, SimulatedDestination};

/// A relay between simulated destinations.
#[derive(Debug)]
pub struct LocalUnderTest {
    relay: Relay<SimulatedDestination, SimulatedDestination>,
    clock: Arc<SimulatedClock>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

impl RelayUnderTest for LocalUnderTest {
    type PersistentState = TempDir;

    const NAME: &str = "one machine";
    const PROBING_PROCESSES: u64 = 1;
    /// Simulated time stands still meanwhile.
    const RECORD_LATENCY: Duration = Duration::ZERO;

    /// Creates a folder, in memory if possible, since disk latency is not simulated.
    fn empty_state(_: Option<fn() -> usize>) -> TempDir {
        let shared_memory = Path::new("/dev/shm");
        let folder = if shared_memory.is_dir() { TempDir::new_in(shared_memory) } else { TempDir::new() };
        folder.unwrap_or_else(|error| panic!("{error}"))
    }

    /// SQLite has a heap of its own, which is not counted.
    fn store_heap_bytes(_: &TempDir) -> usize {
        0
    }

    fn start(
        folder: &TempDir,
        clock: &Arc<SimulatedClock>,
        loops: &Arc<Mutex<DestinationState>>,
        clay: &Arc<Mutex<DestinationState>>,
    ) -> Self {
        let dyn_clock: SharedClock = Arc::<SimulatedClock>::clone(clock);
        let opened = relay_sqlite::open(folder.path(), dyn_clock.now()).unwrap_or_else(|error| panic!("{error}"));
        let store = SqliteStore::new(opened, Arc::clone(&dyn_clock));
        let shared = settings();
        let destination =
            |state: &Arc<Mutex<DestinationState>>| SimulatedDestination::new(Arc::clone(clock), Arc::clone(state));
        let relay = Relay::with_destinations(
            destination(loops),
            destination(clay),
            &shared,
            keys(&shared).into(),
            &store,
            &dyn_clock,
        );
        let (stop, stopping) = watch::channel(false);
        let clay = Arc::clone(&relay.clay_deliverer);
        let loops = Arc::clone(&relay.loops_deliverer);
        let to_clay = worker::run(store.clone(), Direction::LoopsToClay, clay, stopping.clone());
        let to_loops = worker::run(store, Direction::ClayToLoops, loops, stopping);
        let workers = vec![tokio::spawn(to_clay), tokio::spawn(to_loops)];
        Self { relay, clock: Arc::clone(clock), stop, workers }
    }

    async fn handle_webhook(&self, request: Request<Bytes>) -> u16 {
        self.relay.webhook_handler.handle(request).await.status().as_u16()
    }

    async fn handle_event(&self, request: Request<Bytes>) -> u16 {
        self.relay.api_handler.rows.handle(RowKind::Event, request).await.status().as_u16()
    }

    fn clock(&self) -> &SimulatedClock {
        &self.clock
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}
