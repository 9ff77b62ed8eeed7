//! A backlog drains at the configured rate, completely, and no memory grows with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::simulated_destination::DestinationState;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock};

use crate::{Direction, heap_bytes, lock_exclusively, paused_runtime, resident_bytes, wait_until};

/// What the settings' rate is where they name none.
const RATE_PER_SECOND: f64 = 8.0;

/// Peak memory of the process while it drains a backlog, in bytes: the heap without the store's, and the resident set.
#[derive(Debug, Default)]
struct PeakMemory {
    heap_bytes: usize,
    resident_bytes: usize,
}

/// Stores so many events at once, and drains them.
fn drain<F: RelayUnderTest>(direction: Direction, events: usize) -> PeakMemory {
    drain_with_latency::<F>(direction, events, Duration::ZERO)
}

/// Drains a backlog with this additional latency of the destination.
fn drain_with_latency<F: RelayUnderTest>(direction: Direction, events: usize, latency: Duration) -> PeakMemory {
    let (state, runtime) = (F::empty_state(Some(heap_bytes)), paused_runtime());
    let (loops, clay) = (DestinationState::new(events, 1), DestinationState::new(events, 2));
    let destination = direction.destination(&loops, &clay);
    destination.lock().unwrap().set_response_delay(latency);
    let before = heap_bytes();
    let (started_at, peak) = runtime.block_on(async {
        let clock = Arc::new(SimulatedClock::starting_at(Duration::ZERO, 3));
        let relay = F::start(&state, &clock, &loops, &clay);
        let started_at = clock.elapsed();
        for number in 0..events {
            direction.store_delivery(&relay, number).await;
        }
        let mut peak = PeakMemory::default();
        wait_until(|| {
            peak.heap_bytes = peak.heap_bytes.max(heap_bytes().saturating_sub(before + F::store_heap_bytes(&state)));
            peak.resident_bytes = peak.resident_bytes.max(resident_bytes());
            destination.lock().unwrap().distinct_rows() == events
        })
        .await;
        relay.stop().await;
        (started_at, peak)
    });
    let destination: &Mutex<DestinationState> = &destination;
    let destination = destination.lock().unwrap();
    assert_eq!(destination.throttled, 0, "the end had to refuse something");
    assert!(destination.duplicated().is_empty(), "something came twice: {:?}", destination.duplicated());
    let elapsed = (destination.last_accepted_at - started_at).as_secs_f64();
    let rate_ratio = f64::from(u32::try_from(events).unwrap()) / elapsed / RATE_PER_SECOND;
    println!("{}: {events} events {direction:?}: {:.2} % of the pace, {peak:?}", F::NAME, rate_ratio * 100.0);
    assert!(rate_ratio >= 0.98, "{rate_ratio} of the pace");
    peak
}

/// Drains a small backlog and one five times as large; `store_apart` where the store is not in the process's memory.
fn drain_both<F: RelayUnderTest>(direction: Direction, events: usize, has_separate_store: bool) {
    let (small, large) = (drain::<F>(direction, events / 5), drain::<F>(direction, events));
    let growth = large.heap_bytes.saturating_sub(small.heap_bytes);
    // About a hundred are in flight at most; 1,200 more events in memory would be 600,000 bytes.
    assert!(growth < 200_000, "{growth} bytes more are held for {events} events than for a fifth of them");
    if has_separate_store {
        // Pages are allocated in bulk, and a backlog of 50,000 is 50 MB of rows.
        let growth = large.resident_bytes.saturating_sub(small.resident_bytes);
        assert!(growth < 8_000_000, "{growth} bytes more are resident for {events} events than for a fifth of them");
    }
}

#[test]
fn clay_backlog_drains_at_rate_limit_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<LocalUnderTest>(Direction::ToClay, 5_000, true);
}

#[test]
fn loops_backlog_drains_at_rate_limit_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<LocalUnderTest>(Direction::ToLoops, 5_000, true);
}

#[test]
fn aws_clay_backlog_drains_at_rate_limit_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<AwsUnderTest>(Direction::ToClay, 1_500, false);
}

#[test]
fn aws_loops_backlog_drains_at_rate_limit_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<AwsUnderTest>(Direction::ToLoops, 1_500, false);
}

#[test]
fn aws_backlog_drains_at_rate_limit_with_slow_destination() {
    let _exclusive = lock_exclusively();
    for direction in [Direction::ToClay, Direction::ToLoops] {
        drain_with_latency::<AwsUnderTest>(direction, 1_500, Duration::from_millis(500));
    }
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn backlog_of_50k_drains_at_rate_limit_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<LocalUnderTest>(Direction::ToClay, 50_000, true);
    drain_both::<LocalUnderTest>(Direction::ToLoops, 50_000, true);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn aws_clay_backlog_of_50k_drains_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<AwsUnderTest>(Direction::ToClay, 50_000, false);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn aws_loops_backlog_of_50k_drains_in_constant_memory() {
    let _exclusive = lock_exclusively();
    drain_both::<AwsUnderTest>(Direction::ToLoops, 50_000, false);
}
