//! The relay of one machine, without its sockets.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use relay::ports::clock::Clock as _;
use relay_core::delivery::Direction;
use relay_core::row::RowKind;
use relay_local::app::{Relay, SharedClock};
use relay_local::worker;
use relay_sqlite::store::{self, SqliteStore};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Form, Simulated, keys, settings};
use crate::simulation::end::{End, State};

/// A relay between two ends.
#[derive(Debug)]
pub struct Local {
    relay: Relay<End, End>,
    world: Arc<Simulated>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

impl Form for Local {
    type Kept = TempDir;

    const NAME: &str = "one machine";
    const ASKING: u64 = 1;
    /// Simulated time stands still meanwhile.
    const RECORD_TAKES: Duration = Duration::ZERO;

    /// A folder, in memory where there is such a place: what a disk takes is not what is looked at.
    fn nothing(_: Option<fn() -> usize>) -> TempDir {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        folder.unwrap_or_else(|error| panic!("{error}"))
    }

    /// SQLite has a heap of its own, which is not counted.
    fn held_by_store(_: &TempDir) -> usize {
        0
    }

    fn start(folder: &TempDir, world: &Arc<Simulated>, loops: &Arc<Mutex<State>>, clay: &Arc<Mutex<State>>) -> Self {
        let ambient: SharedClock = Arc::<Simulated>::clone(world);
        let opened = store::open(folder.path(), ambient.now()).unwrap_or_else(|error| panic!("{error}"));
        let store = SqliteStore::new(opened, Arc::clone(&ambient));
        let shared = settings();
        let end = |state: &Arc<Mutex<State>>| End::new(Arc::clone(world), Arc::clone(state));
        let relay = Relay::with_destinations(end(loops), end(clay), &shared, keys(&shared).into(), &store, &ambient);
        let (stop, stopping) = watch::channel(false);
        let clay = Arc::clone(&relay.clay_delivery);
        let loops = Arc::clone(&relay.loops_delivery);
        let to_clay = worker::run(store.clone(), Direction::LoopsToClay, clay, stopping.clone());
        let to_loops = worker::run(store, Direction::ClayToLoops, loops, stopping);
        let workers = vec![tokio::spawn(to_clay), tokio::spawn(to_loops)];
        Self { relay, world: Arc::clone(world), stop, workers }
    }

    async fn take_webhook(&self, request: Request<Bytes>) -> u16 {
        self.relay.handle_webhook(request).await.status().as_u16()
    }

    async fn take_event(&self, request: Request<Bytes>) -> u16 {
        self.relay.handle_row(RowKind::Event, request).await.status().as_u16()
    }

    fn world(&self) -> &Simulated {
        &self.world
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}
