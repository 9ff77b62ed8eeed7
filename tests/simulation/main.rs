//! Hours and days of both forms of the relay, in simulated time: its handlers, its store, its workers, no sockets.

mod backlog;
mod outage;
mod poison_messages;

use std::alloc::System;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relay_testkit::simulation::end::DestinationState;
use relay_testkit::simulation::{RelayUnderTest, send_event, send_webhook};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

/// Counts what the process holds.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tests of this program run one after another, so that what is counted is theirs.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which way deliveries go.
#[derive(Debug, Clone, Copy)]
enum Way {
    ToClay,
    ToLoops,
}

impl Way {
    /// Where they go to.
    fn end(
        self,
        loops: &Arc<Mutex<DestinationState>>,
        clay: &Arc<Mutex<DestinationState>>,
    ) -> Arc<Mutex<DestinationState>> {
        Arc::clone(match self {
            Self::ToClay => clay,
            Self::ToLoops => loops,
        })
    }

    /// Has one stored.
    async fn store<F: RelayUnderTest>(self, relay: &F, number: usize) {
        match self {
            Self::ToClay => assert_eq!(send_webhook(relay, number).await, 200),
            Self::ToLoops => assert_eq!(send_event(relay, number, "respond-async").await, 202),
        }
    }
}

/// What the process holds, in bytes.
fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// What the process has in memory, in bytes: the store's own memory is in it as well.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap();
    pages * 4096
}

/// A clock that stands until everybody waits.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Waits until `come` says so.
async fn until(mut come: impl FnMut() -> bool) {
    while !come() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
