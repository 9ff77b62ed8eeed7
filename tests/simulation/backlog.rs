//! A backlog is drained at the pace, all of it, and nothing grows with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::end::DestinationState;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock};

use crate::{Way, alone, held, resident, runtime, until};

/// What the settings' rate is where they name none.
const RATE: f64 = 8.0;

/// The most memory that the process had while it drained a backlog, in bytes: what it held without what its store holds, and
/// what was resident.
#[derive(Debug, Default)]
struct Memory {
    held: usize,
    resident: usize,
}

/// Stores so many events at once, and drains them.
fn drain<F: RelayUnderTest>(way: Way, events: usize) -> Memory {
    drain_late::<F>(way, events, Duration::ZERO)
}

/// The same, where the end takes so long over each answer.
fn drain_late<F: RelayUnderTest>(way: Way, events: usize, takes: Duration) -> Memory {
    let (kept, runtime) = (F::empty_state(Some(held)), runtime());
    let (loops, clay) = (DestinationState::new(events, 1), DestinationState::new(events, 2));
    let end = way.end(&loops, &clay);
    end.lock().unwrap().set_response_delay(takes);
    let before = held();
    let (began, most) = runtime.block_on(async {
        let world = Arc::new(SimulatedClock::starting_at(Duration::ZERO, 3));
        let relay = F::start(&kept, &world, &loops, &clay);
        let began = world.elapsed();
        for number in 0..events {
            way.store(&relay, number).await;
        }
        let mut most = Memory::default();
        until(|| {
            most.held = most.held.max(held().saturating_sub(before + F::store_heap_bytes(&kept)));
            most.resident = most.resident.max(resident());
            end.lock().unwrap().distinct_rows() == events
        })
        .await;
        relay.stop().await;
        (began, most)
    });
    let end: &Mutex<DestinationState> = &end;
    let end = end.lock().unwrap();
    assert_eq!(end.throttled, 0, "the end had to refuse something");
    assert!(end.duplicated().is_empty(), "something came twice: {:?}", end.duplicated());
    let took = (end.last_accepted_at - began).as_secs_f64();
    let pace = f64::from(u32::try_from(events).unwrap()) / took / RATE;
    println!("{}: {events} events {way:?}: {:.2} % of the pace, {most:?}", F::NAME, pace * 100.0);
    assert!(pace >= 0.98, "{pace} of the pace");
    most
}

/// Drains a small backlog and one five times as large; `store_apart` where the store is not in the process's memory.
fn drain_both<F: RelayUnderTest>(way: Way, events: usize, store_apart: bool) {
    let (small, large) = (drain::<F>(way, events / 5), drain::<F>(way, events));
    let grown = large.held.saturating_sub(small.held);
    // A hundred are under way at the most, more or less; 1,200 events more that were kept would be 600,000 bytes.
    assert!(grown < 200_000, "{grown} bytes more are held for {events} events than for a fifth of them");
    if store_apart {
        // Pages come and go in bulk, and a backlog of 50,000 is 50 MB of rows.
        let grown = large.resident.saturating_sub(small.resident);
        assert!(grown < 8_000_000, "{grown} bytes more are resident for {events} events than for a fifth of them");
    }
}

#[test]
fn a_backlog_of_events_reaches_clay_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<LocalUnderTest>(Way::ToClay, 5_000, true);
}

#[test]
fn a_backlog_of_events_reaches_loops_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<LocalUnderTest>(Way::ToLoops, 5_000, true);
}

#[test]
fn on_aws_a_backlog_of_events_reaches_clay_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<AwsUnderTest>(Way::ToClay, 1_500, false);
}

#[test]
fn on_aws_a_backlog_of_events_reaches_loops_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<AwsUnderTest>(Way::ToLoops, 1_500, false);
}

#[test]
fn on_aws_a_backlog_is_drained_at_the_pace_also_where_an_end_takes_half_a_second_to_answer() {
    let _alone = alone();
    for way in [Way::ToClay, Way::ToLoops] {
        drain_late::<AwsUnderTest>(way, 1_500, Duration::from_millis(500));
    }
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn fifty_thousand_events_reach_either_end_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<LocalUnderTest>(Way::ToClay, 50_000, true);
    drain_both::<LocalUnderTest>(Way::ToLoops, 50_000, true);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn on_aws_fifty_thousand_events_reach_clay_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<AwsUnderTest>(Way::ToClay, 50_000, false);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn on_aws_fifty_thousand_events_reach_loops_at_the_pace_with_no_429_and_no_more_memory() {
    let _alone = alone();
    drain_both::<AwsUnderTest>(Way::ToLoops, 50_000, false);
}
