//! Deliveries that always fail, at a destination that accepts all others: they delay no other delivery for long.

use std::sync::Arc;
use std::time::Duration;

use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::simulated_destination::DestinationState;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock};

use crate::{Direction, lock_exclusively, paused_runtime, wait_until};

const POISON_ROWS: usize = 20;
const GOOD_ROWS: usize = 100;

/// Sends twenty rows that always fail, and then a hundred good ones at this interval; returns the longest time to a
/// good row's acceptance.
fn longest_wait<F: RelayUnderTest>(direction: Direction, interval: Duration, seed: u64) -> Duration {
    const ROWS: usize = POISON_ROWS + GOOD_ROWS;
    let (state, runtime) = (F::empty_state(None), paused_runtime());
    let (loops, clay) = (DestinationState::new(ROWS, seed + 1), DestinationState::new(ROWS, seed + 2));
    let destination = direction.destination(&loops, &clay);
    destination.lock().unwrap().fail_first(POISON_ROWS);
    let sent_at = runtime.block_on(async {
        let clock = Arc::new(SimulatedClock::starting_at(Duration::ZERO, seed));
        let relay = F::start(&state, &clock, &loops, &clay);
        let mut sent_at = Vec::new();
        for number in 0..ROWS {
            if number >= POISON_ROWS {
                tokio::time::sleep(interval).await;
            }
            sent_at.push(clock.elapsed());
            direction.store_delivery(&relay, number).await;
        }
        wait_until(|| destination.lock().unwrap().distinct_rows() == GOOD_ROWS).await;
        relay.stop().await;
        sent_at
    });
    let destination = destination.lock().unwrap();
    let waits = (POISON_ROWS..ROWS).map(|number| destination.accepted_at(number).unwrap() - sent_at[number]);
    let longest = waits.max().unwrap();
    println!("{} {direction:?}: one good row in {interval:?}: the longest wait is {longest:.1?}", F::NAME);
    assert!(
        (POISON_ROWS..ROWS).all(|number| destination.accepted_at(number).is_some()) && destination.poison_failures > 0
    );
    longest
}

/// Sends a hundred good rows behind twenty that always fail. Each of these is one probe while the breaker is open,
/// which is 200 s; hidden messages of AWS become visible later.
fn assert_good_rows_wait_briefly<F: RelayUnderTest>(direction: Direction) {
    let longest = longest_wait::<F>(direction, Duration::ZERO, 1);
    assert!(longest <= Duration::from_secs(15 * 60), "a good row waited {longest:?}");
}

#[test]
fn good_rows_behind_poison_rows_reach_clay_soon() {
    let _exclusive = lock_exclusively();
    assert_good_rows_wait_briefly::<LocalUnderTest>(Direction::ToClay);
}

#[test]
fn good_rows_behind_poison_rows_reach_loops_soon() {
    let _exclusive = lock_exclusively();
    assert_good_rows_wait_briefly::<LocalUnderTest>(Direction::ToLoops);
}

#[test]
fn aws_good_rows_behind_poison_rows_reach_clay_soon() {
    let _exclusive = lock_exclusively();
    assert_good_rows_wait_briefly::<AwsUnderTest>(Direction::ToClay);
}

#[test]
fn aws_good_rows_behind_poison_rows_reach_loops_soon() {
    let _exclusive = lock_exclusively();
    assert_good_rows_wait_briefly::<AwsUnderTest>(Direction::ToLoops);
}

#[test]
fn never_failed_row_is_used_as_the_breaker_probe() {
    let _exclusive = lock_exclusively();
    let longest = longest_wait::<LocalUnderTest>(Direction::ToClay, Duration::from_secs(36), 1);
    assert!(longest <= Duration::from_secs(120), "a good row waited {longest:?}");
}
