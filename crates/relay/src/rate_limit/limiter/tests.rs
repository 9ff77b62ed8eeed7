//! The pace of one process, in simulated time.

use relay_core::policy::response::CallOutcome;

use super::*;
use crate::destination::rate_limit_headers::QuotaHeaders;

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn pace(per_second: u32) -> LocalRateLimiter {
    LocalRateLimiter::new(number(per_second))
}

/// The times of those among so many rows in one moment that got a turn.
async fn turns(pace: &LocalRateLimiter, rows: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut turns = Vec::new();
    for _ in 0..rows {
        turns.extend(pace.try_acquire().await.map(|turn| turn.0 - start));
    }
    turns
}

/// The most of these times that lie within one second, if each may be late by that much on its own.
fn most_in_a_second(sent: &[Duration], late: Duration) -> usize {
    let within = |first: &Duration| {
        sent.iter().filter(|at| **at >= *first && **at < *first + Duration::from_secs(1) + late).count()
    };
    sent.iter().map(within).max().unwrap_or_default()
}

async fn sent_by_workers(pace: &LocalRateLimiter, requests: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut sent = Vec::new();
    for _ in 0..requests {
        pace.acquire().await.unwrap();
        sent.push(start.elapsed());
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn no_second_holds_more_than_ten_requests_though_each_may_be_late() {
    for per_second in 1..=8 {
        let sent = sent_by_workers(&pace(per_second), 40).await;
        let most = most_in_a_second(&sent, Duration::from_millis(199));
        assert!(most <= 10, "{most} at {per_second} a second");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_late_does_not_slow_the_others_down() {
    let pace = pace(8);
    let start = Instant::now();
    for _ in 0..801 {
        pace.acquire().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn rows_of_one_moment_wait_a_fraction_of_a_second_for_their_turn() {
    assert_eq!(turns(&pace(8), 2).await, [Duration::ZERO, Duration::from_millis(125)]);
    assert_eq!(turns(&pace(8), 100).await.len(), 5, "who would wait for longer than half a second is turned away");
    assert_eq!(turns(&pace(1), 100).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_was_turned_away_is_not_overtaken_for_a_moment() {
    let pace = pace(8);
    assert_eq!(turns(&pace, 6).await.len(), 5);
    tokio::time::advance(Duration::from_millis(900)).await;
    assert_eq!(turns(&pace, 1).await.len(), 0);
    tokio::time::advance(Duration::from_millis(101)).await;
    assert_eq!(turns(&pace, 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_closes_the_end() {
    let pace = pace(8);
    let start = Instant::now();
    pace.throttle_for(Duration::from_secs(4)).await;
    assert_eq!(pace.try_acquire().await, None);
    assert!(matches!(pace.readiness(), Readiness::LeftAlone(Unavailable::Throttled(_))));
    pace.acquire().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_minds_a_pause_that_begins_meanwhile() {
    let pace = pace(1);
    pace.acquire().await.unwrap();
    let start = Instant::now();
    let waits = async { pace.acquire().await.map(|()| start.elapsed()) };
    let (waited, ()) = tokio::join!(waits, pace.throttle_for(Duration::from_secs(3)));
    assert_eq!(waited, Ok(Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_is_not_waited_for() {
    let pace = pace(8);
    pace.throttle_for(Duration::from_secs(3600)).await;
    assert_eq!(pace.acquire().await, Err(Unavailable::Throttled(Duration::from_secs(3600))));
}

#[tokio::test(start_paused = true)]
async fn turns_that_were_over_when_a_frozen_process_woke_up_are_taken_anew() {
    let pace = std::sync::Arc::new(pace(8));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let pace = std::sync::Arc::clone(&pace);
        waiting.spawn(async move { pace.acquire().await.map(|()| Instant::now()) });
    }
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(600)).await;
    let woke = Instant::now();
    let sent: Vec<Instant> = waiting.join_all().await.into_iter().map(Result::unwrap).collect();
    let second = woke..woke + Duration::from_secs(1);
    assert!(sent.iter().filter(|at| second.contains(at)).count() <= 10, "{sent:?}");
    assert!(sent.iter().max().unwrap().duration_since(woke) < Duration::from_secs(3), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_died_while_the_process_was_frozen_open_no_circuit() {
    let pace = pace(8);
    for _ in 0..5 {
        pace.record(&DestinationResponse {
            reused_connection: true,
            ..DestinationResponse::without_response(CallOutcome::TimedOut)
        })
        .await;
    }
    assert_eq!(pace.readiness(), Readiness::Ready);
    for _ in 0..3 {
        pace.record(&DestinationResponse {
            reused_connection: true,
            ..DestinationResponse::without_response(CallOutcome::Answered(503))
        })
        .await;
    }
    assert!(
        matches!(pace.readiness(), Readiness::LeftAlone(Unavailable::CircuitOpen(_))),
        "an answer counts on any connection"
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_down_before_a_freeze_is_asked_once_after_it() {
    let pace = pace(8);
    for _ in 0..3 {
        pace.record(&DestinationResponse::without_response(CallOutcome::TimedOut)).await;
    }
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(pace.readiness(), Readiness::HalfOpen);
    let (one, other) = tokio::join!(pace.acquire(), pace.acquire());
    assert_eq!([one.is_ok(), other.is_ok()].into_iter().filter(|passed| *passed).count(), 1);
}

fn saying(remaining: u32) -> DestinationResponse {
    DestinationResponse {
        rate_limit: Some(QuotaHeaders { limit: 10, remaining }),
        ..DestinationResponse::without_response(CallOutcome::Answered(200))
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_second_others_have_used_up_is_left_alone_until_it_is_over() {
    let pace = pace(8);
    pace.acquire().await.unwrap();
    let start = Instant::now();
    pace.record(&saying(0)).await;
    pace.acquire().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    pace.acquire().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(1250), "and then the pace is half of what it was");
}

#[tokio::test(start_paused = true)]
async fn what_the_relay_itself_has_used_slows_nothing_down() {
    let pace = pace(8);
    let start = Instant::now();
    for request in 0..80 {
        pace.acquire().await.unwrap();
        pace.record(&saying(9 - request % 8)).await;
    }
    assert_eq!(start.elapsed(), Duration::from_millis(125) * 79);
}

#[tokio::test(start_paused = true)]
async fn where_no_worker_asks_an_end_that_is_down_one_row_in_ten_seconds_does() {
    let pace = pace(8);
    let down = DestinationResponse::without_response(CallOutcome::Answered(503));
    for _ in 0..3 {
        assert!(pace.try_acquire().await.is_some());
        pace.record(&down).await;
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    let mut asked = 0;
    for _ in 0..600 {
        tokio::time::advance(Duration::from_millis(100)).await;
        if pace.try_acquire().await.is_some() {
            asked += 1;
            pace.record(&down).await;
        }
    }
    assert!((5..=6).contains(&asked), "{asked} in a minute");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(pace.try_acquire().await.is_some());
    pace.record(&DestinationResponse::without_response(CallOutcome::Answered(200))).await;
    assert!(pace.try_acquire().await.is_some(), "it is back");
}
