//! The rate limiter of one process, in simulated time.

use relay_core::policy::response::CallOutcome;

use super::*;
use crate::destination::rate_limit_headers::QuotaHeaders;

fn non_zero(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn limiter(per_second: u32) -> LocalRateLimiter {
    LocalRateLimiter::new(non_zero(per_second))
}

/// The times of those among so many rows in one moment that got a turn.
async fn permits(limiter: &LocalRateLimiter, rows: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut permits = Vec::new();
    for _ in 0..rows {
        permits.extend(limiter.try_acquire().await.map(|permit| permit.0 - start));
    }
    permits
}

/// The most of these times that lie within one second, if each may be late by that much on its own.
fn max_in_one_second(sent: &[Duration], jitter: Duration) -> usize {
    let count_from = |first: &Duration| {
        sent.iter().filter(|at| **at >= *first && **at < *first + Duration::from_secs(1) + jitter).count()
    };
    sent.iter().map(count_from).max().unwrap_or_default()
}

async fn acquire_times(limiter: &LocalRateLimiter, requests: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut sent = Vec::new();
    for _ in 0..requests {
        limiter.acquire().await.unwrap();
        sent.push(start.elapsed());
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn rate_stays_within_ten_per_second_despite_jitter() {
    for per_second in 1..=8 {
        let sent = acquire_times(&limiter(per_second), 40).await;
        let max = max_in_one_second(&sent, Duration::from_millis(199));
        assert!(max <= 10, "{max} at {per_second} a second");
    }
}

#[tokio::test(start_paused = true)]
async fn late_permit_does_not_delay_later_permits() {
    let limiter = limiter(8);
    let start = Instant::now();
    for _ in 0..801 {
        limiter.acquire().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn burst_of_rows_waits_at_most_half_a_second() {
    assert_eq!(permits(&limiter(8), 2).await, [Duration::ZERO, Duration::from_millis(125)]);
    assert_eq!(permits(&limiter(8), 100).await.len(), 5, "who would wait for longer than half a second is turned away");
    assert_eq!(permits(&limiter(1), 100).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rejected_caller_blocks_fast_path_for_a_second() {
    let limiter = limiter(8);
    assert_eq!(permits(&limiter, 6).await.len(), 5);
    tokio::time::advance(Duration::from_millis(900)).await;
    assert_eq!(permits(&limiter, 1).await.len(), 0);
    tokio::time::advance(Duration::from_millis(101)).await;
    assert_eq!(permits(&limiter, 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn throttled_destination_rejects_callers_and_delays_workers() {
    let limiter = limiter(8);
    let start = Instant::now();
    limiter.throttle_for(Duration::from_secs(4)).await;
    assert_eq!(limiter.try_acquire().await, None);
    assert!(matches!(limiter.readiness(), Readiness::Unavailable(Unavailable::Throttled(_))));
    limiter.acquire().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn throttle_during_acquire_delays_the_permit() {
    let limiter = limiter(1);
    limiter.acquire().await.unwrap();
    let start = Instant::now();
    let acquiring = async { limiter.acquire().await.map(|()| start.elapsed()) };
    let (waited, ()) = tokio::join!(acquiring, limiter.throttle_for(Duration::from_secs(3)));
    assert_eq!(waited, Ok(Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn long_throttle_fails_acquire_immediately() {
    let limiter = limiter(8);
    limiter.throttle_for(Duration::from_secs(3600)).await;
    assert_eq!(limiter.acquire().await, Err(Unavailable::Throttled(Duration::from_secs(3600))));
}

#[tokio::test(start_paused = true)]
async fn expired_permits_are_reacquired_after_freeze() {
    let limiter = std::sync::Arc::new(limiter(8));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let limiter = std::sync::Arc::clone(&limiter);
        tasks.spawn(async move { limiter.acquire().await.map(|()| Instant::now()) });
    }
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(600)).await;
    let woke_at = Instant::now();
    let sent: Vec<Instant> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
    let second = woke_at..woke_at + Duration::from_secs(1);
    assert!(sent.iter().filter(|at| second.contains(at)).count() <= 10, "{sent:?}");
    assert!(sent.iter().max().unwrap().duration_since(woke_at) < Duration::from_secs(3), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_pooled_connections_do_not_trip_breaker() {
    let limiter = limiter(8);
    for _ in 0..5 {
        limiter
            .record(&DestinationResponse {
                reused_connection: true,
                ..DestinationResponse::without_response(CallOutcome::TimedOut)
            })
            .await;
    }
    assert_eq!(limiter.readiness(), Readiness::Ready);
    for _ in 0..3 {
        limiter
            .record(&DestinationResponse {
                reused_connection: true,
                ..DestinationResponse::without_response(CallOutcome::Responded(503))
            })
            .await;
    }
    assert!(
        matches!(limiter.readiness(), Readiness::Unavailable(Unavailable::CircuitOpen(_))),
        "an answer counts on any connection"
    );
}

#[tokio::test(start_paused = true)]
async fn open_circuit_allows_one_probe_after_freeze() {
    let limiter = limiter(8);
    for _ in 0..3 {
        limiter.record(&DestinationResponse::without_response(CallOutcome::TimedOut)).await;
    }
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(limiter.readiness(), Readiness::HalfOpen);
    let (first, second) = tokio::join!(limiter.acquire(), limiter.acquire());
    assert_eq!([first.is_ok(), second.is_ok()].into_iter().filter(|is_ok| *is_ok).count(), 1);
}

fn response_with_remaining(remaining: u32) -> DestinationResponse {
    DestinationResponse {
        rate_limit: Some(QuotaHeaders { limit: 10, remaining }),
        ..DestinationResponse::without_response(CallOutcome::Responded(200))
    }
}

#[tokio::test(start_paused = true)]
async fn quota_exhausted_by_others_throttles_until_reset() {
    let limiter = limiter(8);
    limiter.acquire().await.unwrap();
    let start = Instant::now();
    limiter.record(&response_with_remaining(0)).await;
    limiter.acquire().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    limiter.acquire().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(1250), "and then the rate is half of what it was");
}

#[tokio::test(start_paused = true)]
async fn own_quota_use_does_not_slow_the_limiter() {
    let limiter = limiter(8);
    let start = Instant::now();
    for request in 0..80 {
        limiter.acquire().await.unwrap();
        limiter.record(&response_with_remaining(9 - request % 8)).await;
    }
    assert_eq!(start.elapsed(), Duration::from_millis(125) * 79);
}

#[tokio::test(start_paused = true)]
async fn open_circuit_lets_one_row_probe_without_a_worker() {
    let limiter = limiter(8);
    let down = DestinationResponse::without_response(CallOutcome::Responded(503));
    for _ in 0..3 {
        assert!(limiter.try_acquire().await.is_some());
        limiter.record(&down).await;
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    let mut probes = 0;
    for _ in 0..600 {
        tokio::time::advance(Duration::from_millis(100)).await;
        if limiter.try_acquire().await.is_some() {
            probes += 1;
            limiter.record(&down).await;
        }
    }
    assert!((5..=6).contains(&probes), "{probes} in a minute");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(limiter.try_acquire().await.is_some());
    limiter.record(&DestinationResponse::without_response(CallOutcome::Responded(200))).await;
    assert!(limiter.try_acquire().await.is_some(), "it is back");
}
