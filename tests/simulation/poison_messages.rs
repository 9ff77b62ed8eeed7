//! Deliveries that fail whenever they come, at an end that is well for all others: they keep nobody waiting for long.

use std::sync::Arc;
use std::time::Duration;

use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::end::DestinationState;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock};

use crate::{Way, alone, runtime, until};

const POISON: usize = 20;
const GOOD: usize = 100;

/// Twenty rows come that always fail, and after them a hundred good ones, one in so long a time; the longest that a good one
/// is under way.
fn longest_wait<F: RelayUnderTest>(way: Way, every: Duration, seed: u64) -> Duration {
    const ROWS: usize = POISON + GOOD;
    let (kept, runtime) = (F::empty_state(None), runtime());
    let (loops, clay) = (DestinationState::new(ROWS, seed + 1), DestinationState::new(ROWS, seed + 2));
    let end = way.end(&loops, &clay);
    end.lock().unwrap().fail_first(POISON);
    let sent_at = runtime.block_on(async {
        let world = Arc::new(SimulatedClock::starting_at(Duration::ZERO, seed));
        let relay = F::start(&kept, &world, &loops, &clay);
        let mut sent_at = Vec::new();
        for number in 0..ROWS {
            if number >= POISON {
                tokio::time::sleep(every).await;
            }
            sent_at.push(world.elapsed());
            way.store(&relay, number).await;
        }
        until(|| end.lock().unwrap().distinct_rows() == GOOD).await;
        relay.stop().await;
        sent_at
    });
    let end = end.lock().unwrap();
    let waits = (POISON..ROWS).map(|number| end.accepted_at(number).unwrap() - sent_at[number]);
    let longest = waits.max().unwrap();
    println!("{} {way:?}: one good row in {every:?}: the longest wait is {longest:.1?}", F::NAME);
    assert!((POISON..ROWS).all(|number| end.accepted_at(number).is_some()) && end.poison_failures > 0);
    longest
}

/// A hundred good rows behind twenty that always fail. Each of these is asked for once while the end counts as down, which is
/// 200 s; what is hidden on AWS comes later, and is shown when one gets through.
fn at_once<F: RelayUnderTest>(way: Way) {
    let longest = longest_wait::<F>(way, Duration::ZERO, 1);
    assert!(longest <= Duration::from_secs(15 * 60), "a good row waited {longest:?}");
}

#[test]
fn good_rows_behind_twenty_that_always_fail_are_soon_at_clay() {
    let _alone = alone();
    at_once::<LocalUnderTest>(Way::ToClay);
}

#[test]
fn good_rows_behind_twenty_that_always_fail_are_soon_at_loops() {
    let _alone = alone();
    at_once::<LocalUnderTest>(Way::ToLoops);
}

#[test]
fn on_aws_good_rows_behind_twenty_that_always_fail_are_soon_at_clay() {
    let _alone = alone();
    at_once::<AwsUnderTest>(Way::ToClay);
}

#[test]
fn on_aws_good_rows_behind_twenty_that_always_fail_are_soon_at_loops() {
    let _alone = alone();
    at_once::<AwsUnderTest>(Way::ToLoops);
}

#[test]
fn a_row_that_never_failed_is_the_one_that_shows_that_the_end_is_well() {
    let _alone = alone();
    let longest = longest_wait::<LocalUnderTest>(Way::ToClay, Duration::from_secs(36), 1);
    assert!(longest <= Duration::from_secs(120), "a good row waited {longest:?}");
}
