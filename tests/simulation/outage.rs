//! Hours and days in which an end is down and the relay is killed again and again; and a burst of rows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::end::DestinationState;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock, send_event, send_webhook};

use crate::{alone, runtime};

const HOUR: Duration = Duration::from_secs(3600);
/// When the end goes down.
const DOWN_FROM: Duration = HOUR;
/// How often an end that is down is asked by one worker.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// What a worker may have begun before it sees that the end is down.
const AT_ONCE: u64 = 8;

/// Which end is down.
#[derive(Debug, Clone, Copy)]
enum End {
    Clay,
    Loops,
}

/// An end is down for that long. Meanwhile events come in, and at `kills` moments the relay is dropped with everything it
/// has under way, also just before and just after the end is back.
fn go_through<F: RelayUnderTest>(which: End, down_for: Duration, events: usize, kills: usize, seed: u64) {
    let back_at = DOWN_FROM + down_for;
    let (kept, mut rng) = (F::empty_state(None), Rng::with_seed(seed));
    let (loops, clay) = (DestinationState::new(events, seed + 1), DestinationState::new(events, seed + 2));
    let end = match which {
        End::Clay => Arc::clone(&clay),
        End::Loops => Arc::clone(&loops),
    };
    end.lock().unwrap().set_outage(DOWN_FROM, back_at);
    let seconds = back_at.as_secs();
    let mut killed_at: Vec<Duration> = (0..kills)
        .map(|kill| {
            // Every fourth one while what has waited is being sent.
            let from = if kill % 4 == 0 { seconds } else { 0 };
            Duration::from_millis(rng.u64(from * 1000..(seconds + 30) * 1000))
        })
        .collect();
    killed_at.sort();
    let mut arrives_at: Vec<Duration> =
        (0..events).map(|_| Duration::from_millis(rng.u64(0..seconds * 1000))).collect();
    arrives_at.sort();

    let (mut arrived, mut elapsed) = (0, Duration::ZERO);
    let mut unrecorded = BTreeSet::new();
    for life in 0..=kills {
        let dies_at = killed_at.get(life).copied();
        let runtime = runtime();
        elapsed = runtime.block_on(async {
            let world = Arc::new(SimulatedClock::starting_at(elapsed, rng.u64(..)));
            let relay = F::start(&kept, &world, &loops, &clay);
            let until = |at: Duration| tokio::time::sleep(at.saturating_sub(world.elapsed()));
            while let Some(at) = arrives_at.get(arrived).copied().filter(|at| dies_at.is_none_or(|dies| *at < dies)) {
                until(at).await;
                match which {
                    End::Clay => assert_eq!(send_webhook(&relay, arrived).await, 200),
                    End::Loops => {
                        let status = send_event(&relay, arrived, "").await;
                        assert!(status == 200 || status == 202, "{status}");
                    }
                }
                arrived += 1;
            }
            match dies_at {
                Some(at) => until(at).await,
                None => all_there(&end, events, back_at + HOUR, &world).await,
            }
            // Not stopped, not even its file closed: everything is left as it is.
            std::mem::forget(relay);
            world.elapsed()
        });
        // What is being written is written or not.
        runtime.shutdown_timeout(Duration::from_secs(10));
        unrecorded.append(&mut end.lock().unwrap().unrecorded(elapsed, F::RECORD_LATENCY));
    }

    let end = end.lock().unwrap();
    assert_eq!(end.distinct_rows(), events, "something was lost");
    let doubled = end.duplicated();
    assert!(doubled.is_subset(&unrecorded), "{doubled:?} came twice, and only {unrecorded:?} were not on record");
    let starts = u64::try_from(kills).unwrap() + 1;
    let may = F::PROBING_PROCESSES * (down_for.as_secs() / ASKED_EVERY.as_secs() + starts * AT_ONCE);
    println!(
        "{}: {which:?} down for {} h, {kills} kills: {events} events there, {} of them twice; asked {} times while down, at most {may}; all there {:.0?} after it was back",
        F::NAME,
        down_for.as_secs() / 3600,
        doubled.len(),
        end.calls_during_outage,
        end.last_accepted_at.saturating_sub(back_at),
    );
    assert!(end.calls_during_outage <= may, "asked {} times, at most {may}", end.calls_during_outage);
}

async fn all_there(end: &Mutex<DestinationState>, events: usize, within: Duration, world: &SimulatedClock) {
    while end.lock().unwrap().distinct_rows() < events {
        assert!(
            world.elapsed() < within,
            "{} of {events} were there an hour later",
            end.lock().unwrap().distinct_rows()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The last answer is on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[test]
fn all_events_reach_a_clay_that_was_down_for_hours_though_the_relay_was_killed_again_and_again() {
    let _alone = alone();
    go_through::<LocalUnderTest>(End::Clay, 3 * HOUR, 200, 20, 11);
}

#[test]
fn all_events_reach_a_loops_that_was_down_for_hours_though_the_relay_was_killed_again_and_again() {
    let _alone = alone();
    go_through::<LocalUnderTest>(End::Loops, 3 * HOUR, 200, 20, 12);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn all_events_reach_an_end_that_was_down_for_three_days_though_the_relay_was_killed_forty_times() {
    let _alone = alone();
    go_through::<LocalUnderTest>(End::Clay, 72 * HOUR, 300, 40, 13);
    go_through::<LocalUnderTest>(End::Loops, 72 * HOUR, 300, 40, 14);
}

#[test]
fn on_aws_all_events_reach_a_clay_that_was_down_for_hours_though_the_relay_was_killed_again_and_again() {
    let _alone = alone();
    go_through::<AwsUnderTest>(End::Clay, 3 * HOUR, 200, 20, 11);
}

#[test]
fn on_aws_all_events_reach_a_loops_that_was_down_for_hours_though_the_relay_was_killed_again_and_again() {
    let _alone = alone();
    go_through::<AwsUnderTest>(End::Loops, 3 * HOUR, 200, 20, 12);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn on_aws_all_events_reach_an_end_that_was_down_for_three_days_though_the_relay_was_killed_forty_times() {
    let _alone = alone();
    go_through::<AwsUnderTest>(End::Clay, 72 * HOUR, 300, 40, 13);
    go_through::<AwsUnderTest>(End::Loops, 72 * HOUR, 300, 40, 14);
}

/// A thousand rows come within ten seconds, a hundred each second.
fn burst<F: RelayUnderTest + Send + Sync + 'static>() {
    const ROWS: usize = 1000;
    let (kept, runtime) = (F::empty_state(None), runtime());
    let (loops, clay) = (DestinationState::new(ROWS, 1), DestinationState::new(ROWS, 2));
    let answers = runtime.block_on(async {
        let world = Arc::new(SimulatedClock::starting_at(Duration::ZERO, 3));
        let relay = Arc::new(F::start(&kept, &world, &loops, &clay));
        let mut rows = tokio::task::JoinSet::new();
        for number in 0..ROWS {
            let relay = Arc::clone(&relay);
            rows.spawn(async move { send_event(relay.as_ref(), number, "").await });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let answers = rows.join_all().await;
        all_there(&loops, ROWS, HOUR, &world).await;
        answers
    });
    let count = |status: u16| answers.iter().filter(|answered| **answered == status).count();
    let loops = loops.lock().unwrap();
    // Eight a second.
    let ideal = Duration::from_secs(125);
    println!(
        "{}: {} answered 200, {} answered 202; all there after {:.1?}",
        F::NAME,
        count(200),
        count(202),
        loops.last_accepted_at
    );
    assert_eq!((count(200) + count(202), loops.throttled, loops.duplicated().len()), (ROWS, 0, 0));
    assert!(loops.last_accepted_at <= ideal.mul_f64(1.1), "{:?}", loops.last_accepted_at);
}

#[test]
fn a_thousand_rows_within_ten_seconds_are_answered_200_or_202_and_are_at_loops_as_soon_as_the_pace_allows() {
    let _alone = alone();
    burst::<LocalUnderTest>();
}

#[test]
fn on_aws_a_thousand_rows_within_ten_seconds_are_answered_and_are_at_loops_as_soon_as_the_pace_allows() {
    let _alone = alone();
    burst::<AwsUnderTest>();
}
