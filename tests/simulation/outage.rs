//! Outages of hours and days, during which the relay is killed again and again; and a burst of rows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use relay_testkit::simulation::aws::AwsUnderTest;
use relay_testkit::simulation::local::LocalUnderTest;
use relay_testkit::simulation::simulated_destination::DestinationState;
use relay_testkit::simulation::{RelayUnderTest, SimulatedClock, send_event, send_webhook};

use crate::{lock_exclusively, paused_runtime};

const HOUR: Duration = Duration::from_secs(3600);
/// Start of the outage.
const OUTAGE_START: Duration = HOUR;
/// Interval at which one worker probes a destination that is down.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum attempts that a worker starts before it notices the outage.
const MAX_PARALLEL_ATTEMPTS: u64 = 8;

/// The destination that is down.
#[derive(Debug, Clone, Copy)]
enum FailingDestination {
    Clay,
    Loops,
}

/// Runs an outage of that length. Meanwhile events arrive, and at `kills` moments the relay is dropped with everything
/// in flight, also just before and just after the outage ends.
fn run_outage<F: RelayUnderTest>(
    failing: FailingDestination,
    outage_duration: Duration,
    events: usize,
    kills: usize,
    seed: u64,
) {
    let recovers_at = OUTAGE_START + outage_duration;
    let (state, mut rng) = (F::empty_state(None), Rng::with_seed(seed));
    let (loops, clay) = (DestinationState::new(events, seed + 1), DestinationState::new(events, seed + 2));
    let destination = match failing {
        FailingDestination::Clay => Arc::clone(&clay),
        FailingDestination::Loops => Arc::clone(&loops),
    };
    destination.lock().unwrap().set_outage(OUTAGE_START, recovers_at);
    let seconds = recovers_at.as_secs();
    let mut kill_times: Vec<Duration> = (0..kills)
        .map(|kill| {
            // Every fourth one while what has waited is being sent.
            let from = if kill % 4 == 0 { seconds } else { 0 };
            Duration::from_millis(rng.u64(from * 1000..(seconds + 30) * 1000))
        })
        .collect();
    kill_times.sort();
    let mut arrival_times: Vec<Duration> =
        (0..events).map(|_| Duration::from_millis(rng.u64(0..seconds * 1000))).collect();
    arrival_times.sort();

    let (mut sent_count, mut elapsed) = (0, Duration::ZERO);
    let mut unrecorded = BTreeSet::new();
    for run in 0..=kills {
        let next_kill_at = kill_times.get(run).copied();
        let runtime = paused_runtime();
        elapsed = runtime.block_on(async {
            let clock = Arc::new(SimulatedClock::starting_at(elapsed, rng.u64(..)));
            let relay = F::start(&state, &clock, &loops, &clay);
            let sleep_until = |at: Duration| tokio::time::sleep(at.saturating_sub(clock.elapsed()));
            while let Some(at) =
                arrival_times.get(sent_count).copied().filter(|at| next_kill_at.is_none_or(|kill_at| *at < kill_at))
            {
                sleep_until(at).await;
                match failing {
                    FailingDestination::Clay => assert_eq!(send_webhook(&relay, sent_count).await, 200),
                    FailingDestination::Loops => {
                        let status = send_event(&relay, sent_count, "").await;
                        assert!(status == 200 || status == 202, "{status}");
                    }
                }
                sent_count += 1;
            }
            match next_kill_at {
                Some(at) => sleep_until(at).await,
                None => wait_for_all(&destination, events, recovers_at + HOUR, &clock).await,
            }
            // Not stopped, not even its file closed: everything is left as it is.
            std::mem::forget(relay);
            clock.elapsed()
        });
        // Pending writes are completed or not.
        runtime.shutdown_timeout(Duration::from_secs(10));
        unrecorded.append(&mut destination.lock().unwrap().unrecorded(elapsed, F::RECORD_LATENCY));
    }

    let destination = destination.lock().unwrap();
    assert_eq!(destination.distinct_rows(), events, "something was lost");
    let duplicates = destination.duplicated();
    assert!(duplicates.is_subset(&unrecorded), "{duplicates:?} came twice, and only {unrecorded:?} were not on record");
    let starts = u64::try_from(kills).unwrap() + 1;
    let max_probes =
        F::PROBING_PROCESSES * (outage_duration.as_secs() / PROBE_INTERVAL.as_secs() + starts * MAX_PARALLEL_ATTEMPTS);
    println!(
        "{}: {failing:?} down for {} h, {kills} kills: {events} events there, {} of them twice; asked {} times while down, at most {max_probes}; all there {:.0?} after it was back",
        F::NAME,
        outage_duration.as_secs() / 3600,
        duplicates.len(),
        destination.calls_during_outage,
        destination.last_accepted_at.saturating_sub(recovers_at),
    );
    assert!(
        destination.calls_during_outage <= max_probes,
        "asked {} times, at most {max_probes}",
        destination.calls_during_outage
    );
}

async fn wait_for_all(
    destination: &Mutex<DestinationState>,
    events: usize,
    deadline: Duration,
    clock: &SimulatedClock,
) {
    while destination.lock().unwrap().distinct_rows() < events {
        assert!(
            clock.elapsed() < deadline,
            "{} of {events} were there an hour later",
            destination.lock().unwrap().distinct_rows()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The last response is on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[test]
fn clay_outage_with_relay_crashes_delivers_everything() {
    let _exclusive = lock_exclusively();
    run_outage::<LocalUnderTest>(FailingDestination::Clay, 3 * HOUR, 200, 20, 11);
}

#[test]
fn loops_outage_with_relay_crashes_delivers_everything() {
    let _exclusive = lock_exclusively();
    run_outage::<LocalUnderTest>(FailingDestination::Loops, 3 * HOUR, 200, 20, 12);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn three_day_outage_with_forty_crashes_delivers_everything() {
    let _exclusive = lock_exclusively();
    run_outage::<LocalUnderTest>(FailingDestination::Clay, 72 * HOUR, 300, 40, 13);
    run_outage::<LocalUnderTest>(FailingDestination::Loops, 72 * HOUR, 300, 40, 14);
}

#[test]
fn aws_clay_outage_with_relay_crashes_delivers_everything() {
    let _exclusive = lock_exclusively();
    run_outage::<AwsUnderTest>(FailingDestination::Clay, 3 * HOUR, 200, 20, 11);
}

#[test]
fn aws_loops_outage_with_relay_crashes_delivers_everything() {
    let _exclusive = lock_exclusively();
    run_outage::<AwsUnderTest>(FailingDestination::Loops, 3 * HOUR, 200, 20, 12);
}

#[test]
#[ignore = "it takes minutes: `make soak`"]
fn aws_three_day_outage_with_forty_crashes_delivers_everything() {
    let _exclusive = lock_exclusively();
    run_outage::<AwsUnderTest>(FailingDestination::Clay, 72 * HOUR, 300, 40, 13);
    run_outage::<AwsUnderTest>(FailingDestination::Loops, 72 * HOUR, 300, 40, 14);
}

/// Sends a thousand rows within ten seconds, a hundred each second.
fn run_burst<F: RelayUnderTest + Send + Sync + 'static>() {
    const ROWS: usize = 1000;
    let (state, runtime) = (F::empty_state(None), paused_runtime());
    let (loops, clay) = (DestinationState::new(ROWS, 1), DestinationState::new(ROWS, 2));
    let statuses = runtime.block_on(async {
        let clock = Arc::new(SimulatedClock::starting_at(Duration::ZERO, 3));
        let relay = Arc::new(F::start(&state, &clock, &loops, &clay));
        let mut rows = tokio::task::JoinSet::new();
        for number in 0..ROWS {
            let relay = Arc::clone(&relay);
            rows.spawn(async move { send_event(relay.as_ref(), number, "").await });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let statuses = rows.join_all().await;
        wait_for_all(&loops, ROWS, HOUR, &clock).await;
        statuses
    });
    let count = |status: u16| statuses.iter().filter(|response_status| **response_status == status).count();
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
fn burst_of_1000_rows_reaches_loops_at_the_rate_limit() {
    let _exclusive = lock_exclusively();
    run_burst::<LocalUnderTest>();
}

#[test]
fn aws_burst_of_1000_rows_reaches_loops_at_the_rate_limit() {
    let _exclusive = lock_exclusively();
    run_burst::<AwsUnderTest>();
}
