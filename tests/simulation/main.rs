//! Hours and days of both deployments in simulated time: handlers, store and workers, without sockets.

mod asleep;
mod backlog;
mod outage;
mod poison_messages;

use std::alloc::System;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relay_testkit::simulation::simulated_destination::DestinationState;
use relay_testkit::simulation::{RelayUnderTest, send_event, send_webhook};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

/// Counts what the process holds.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Makes the tests of this program run one after another, so that each measures only its own heap.
static TEST_LOCK: Mutex<()> = Mutex::new(());

fn lock_exclusively() -> MutexGuard<'static, ()> {
    TEST_LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Direction of the deliveries.
#[derive(Debug, Clone, Copy)]
enum Direction {
    ToClay,
    ToLoops,
}

impl Direction {
    /// Where they go to.
    fn destination(
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
    async fn store_delivery<F: RelayUnderTest>(self, relay: &F, number: usize) {
        match self {
            Self::ToClay => assert_eq!(send_webhook(relay, number).await, 200),
            Self::ToLoops => assert_eq!(send_event(relay, number, "respond-async").await, 202),
        }
    }
}

/// What the process holds, in bytes.
fn heap_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// What the process has in memory, in bytes: the store's own memory is in it as well.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap();
    pages * 4096
}

/// A clock that stands until everybody waits.
fn paused_runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Waits until the condition holds.
async fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
