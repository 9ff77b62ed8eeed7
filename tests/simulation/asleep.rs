//! A machine that sleeps, or a deployment that is off, while it is not known whether Loops has an event.

use std::sync::Arc;
use std::time::Duration;

use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::simulated_destination::DestinationState;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock, send_event};

use crate::{lock_exclusively, paused_runtime};

const HOUR: Duration = Duration::from_secs(3600);

/// Loops takes an event and does not answer. Then the relay is off for that long, and Loops is well. Returns how often Loops
/// has mailed, and how often it was asked again.
fn run<F: RelayUnderTest>(off: Duration) -> (bool, u64) {
    let state = F::empty_state(None);
    let (loops, clay) = (DestinationState::new(1, 1), DestinationState::new(1, 2));
    loops.lock().unwrap().set_silent(HOUR);
    let mut elapsed = Duration::ZERO;
    for run in 0..2 {
        let runtime = paused_runtime();
        elapsed = runtime.block_on(async {
            let clock = Arc::new(SimulatedClock::starting_at(elapsed, run));
            let relay = F::start(&state, &clock, &loops, &clay);
            if run == 0 {
                assert_eq!(send_event(&relay, 0, "").await, 202);
            } else {
                tokio::time::sleep(HOUR).await;
            }
            // Not stopped: it is frozen, or its power is gone.
            std::mem::forget(relay);
            clock.elapsed()
        });
        runtime.shutdown_timeout(Duration::from_secs(10));
        elapsed += off;
    }
    let loops = loops.lock().unwrap();
    assert_eq!(loops.distinct_rows(), 1);
    (!loops.duplicated().is_empty(), loops.repeats)
}

fn event_is_mailed_once<F: RelayUnderTest>() {
    let (mailed_twice, repeats) = run::<F>(22 * HOUR);
    assert!(!mailed_twice && repeats >= 2, "{}: it asks again while Loops knows the key: {repeats}", F::NAME);
    let (mailed_twice, repeats) = run::<F>(25 * HOUR);
    assert!(!mailed_twice && repeats == 1, "{}: asked {repeats} times, mailed twice: {mailed_twice}", F::NAME);
}

#[test]
fn event_without_an_answer_is_mailed_once_after_a_day_off() {
    let _exclusive = lock_exclusively();
    event_is_mailed_once::<LocalUnderTest>();
}

#[test]
fn aws_event_without_an_answer_is_mailed_once_after_a_day_off() {
    let _exclusive = lock_exclusively();
    event_is_mailed_once::<AwsUnderTest>();
}
