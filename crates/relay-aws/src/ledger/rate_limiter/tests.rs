//! Sandboxes that share one rate limiter, in simulated time.

use std::sync::Arc;
use std::sync::Mutex as Held;
use std::sync::atomic::{AtomicUsize, Ordering};

use relay::destination::rate_limit_headers::QuotaHeaders;
use relay::ports::clock::Clock;
use relay_core::policy::response::CallOutcome;

use super::*;

/// The time that tokio's clock says.
#[derive(Debug, Clone, Copy)]
struct SimulatedClock(Instant);

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_734_425_918).unwrap() + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }

    fn random(&self) -> f64 {
        fastrand::f64()
    }

    fn new_id(&self) -> String {
        fastrand::u64(..).to_string()
    }
}

/// The item in memory, which takes a few milliseconds to reach.
#[derive(Debug, Clone, Default)]
struct InMemoryStore {
    item: Arc<Held<LimiterItem>>,
    call_count: Arc<AtomicUsize>,
}

impl InMemoryStore {
    async fn simulate_latency(&self) {
        self.call_count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(2..20))).await;
    }
}

impl LimiterStore for InMemoryStore {
    async fn load(&self) -> Result<LimiterItem, StoreError> {
        self.simulate_latency().await;
        Ok(*self.item.lock().unwrap())
    }

    async fn update(
        &self,
        update: LimiterUpdate,
        _: Timestamp,
    ) -> Result<Result<LimiterItem, LimiterItem>, StoreError> {
        self.simulate_latency().await;
        let mut item = self.item.lock().unwrap();
        let (condition_holds, updated) = match update {
            LimiterUpdate::Advance { earliest, latest, by } => {
                let in_range = item.next_at.is_some_and(|at| (earliest..=latest).contains(&at));
                let not_throttled = item.throttled_until.is_none_or(|until| until <= earliest);
                (in_range && not_throttled, LimiterItem { next_at: item.next_at.map(|at| at + by), ..*item })
            }
            LimiterUpdate::Reset { expected, next_at } => {
                let is_unchanged = (expected.next_at, expected.throttled_until) == (item.next_at, item.throttled_until);
                (is_unchanged, LimiterItem { next_at: Some(next_at), ..*item })
            }
            LimiterUpdate::Throttle { until, slow_until } => (
                item.throttled_until.is_none_or(|at| at < until),
                LimiterItem { throttled_until: Some(until), slow_until: slow_until.or(item.slow_until), ..*item },
            ),
        };
        if condition_holds {
            *item = updated;
        }
        Ok(if condition_holds { Ok(updated) } else { Err(*item) })
    }
}

/// A Loops that counts every call, and says what is left of any second.
#[derive(Debug, Clone, Default)]
struct FakeLoops(Arc<Held<Vec<Instant>>>);

impl FakeLoops {
    /// A call that takes up to a tenth of a second to arrive.
    async fn call(&self) -> DestinationResponse {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        let (now, mut calls) = (Instant::now(), self.0.lock().unwrap());
        let used = calls.iter().rev().take_while(|at| now - **at < Duration::from_secs(1)).count();
        let Some(remaining) = 9_u32.checked_sub(u32::try_from(used).unwrap()) else {
            let quota = Some(QuotaHeaders { limit: 10, remaining: 0 });
            return DestinationResponse {
                rate_limit: quota,
                ..DestinationResponse::without_response(CallOutcome::Responded(429))
            };
        };
        calls.push(now);
        DestinationResponse {
            rate_limit: Some(QuotaHeaders { limit: 10, remaining }),
            ..DestinationResponse::without_response(CallOutcome::Responded(200))
        }
    }

    fn accepted_calls(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn sandbox(store: &InMemoryStore, start: Instant) -> Arc<DistributedRateLimiter<InMemoryStore>> {
    Arc::new(DistributedRateLimiter::new(store.clone(), NonZeroU32::new(8).unwrap(), Arc::new(SimulatedClock(start))))
}

/// What a worker's group does for that long; how many of its calls were answered with 429.
async fn send_until(limiter: Arc<DistributedRateLimiter<InMemoryStore>>, loops: FakeLoops, deadline: Instant) -> usize {
    let mut throttled = 0;
    while Instant::now() < deadline {
        if limiter.acquire().await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let response = loops.call().await;
        limiter.record(&response).await;
        if response.outcome == CallOutcome::Responded(429) {
            limiter.throttle_for(Duration::from_secs(1)).await;
            throttled += 1;
        }
    }
    throttled
}

#[tokio::test(start_paused = true)]
async fn workers_and_sync_rows_share_rate_without_429() {
    const SECONDS: u64 = 300;
    let (store, loops, start) = (InMemoryStore::default(), FakeLoops::default(), Instant::now());
    let deadline = start + Duration::from_secs(SECONDS);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let limiter = sandbox(&store, start);
        for _ in 0..10 {
            calls.spawn(send_until(Arc::clone(&limiter), loops.clone(), deadline));
        }
    }
    for _ in 0..5 {
        let (limiter, loops) = (sandbox(&store, start), loops.clone());
        calls.spawn(async move {
            let mut throttled = 0;
            while Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..3000))).await;
                let Some(permit) = limiter.try_acquire().await else { continue };
                permit.wait().await;
                throttled += usize::from(loops.call().await.outcome == CallOutcome::Responded(429));
            }
            throttled
        });
    }
    assert_eq!(calls.join_all().await.into_iter().sum::<usize>(), 0, "of {}", loops.accepted_calls());
    let ideal = usize::try_from(8 * SECONDS).unwrap();
    assert!(loops.accepted_calls() * 100 >= ideal * 98, "{} calls in {SECONDS} s", loops.accepted_calls());
}

#[tokio::test(start_paused = true)]
async fn hundred_concurrent_sandboxes_make_at_most_three_calls_each() {
    let (store, start) = (InMemoryStore::default(), Instant::now());
    let mut rows = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let limiter = sandbox(&store, start);
        rows.spawn(async move { limiter.try_acquire().await });
    }
    let permits: Vec<_> = rows.join_all().await.into_iter().flatten().collect();
    assert!((4..=6).contains(&permits.len()), "{permits:?}");
    let call_count = store.call_count.load(Ordering::Relaxed);
    assert!(call_count <= 300, "{call_count}");
}

#[tokio::test(start_paused = true)]
async fn clock_minutes_ahead_does_not_delay_other_sandboxes() {
    let (store, start) = (InMemoryStore::default(), Instant::now());
    let ahead = start.checked_sub(Duration::from_secs(600)).unwrap();
    assert!(sandbox(&store, ahead).try_acquire().await.is_some());
    let (limiter, requested_at) = (sandbox(&store, start), Instant::now());
    assert!(limiter.try_acquire().await.is_some());
    limiter.acquire().await.unwrap();
    assert!(requested_at.elapsed() < Duration::from_secs(1), "{:?}", requested_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn clock_stepping_back_does_not_raise_rate() {
    let (store, loops, start) = (InMemoryStore::default(), FakeLoops::default(), Instant::now());
    let later = start + Duration::from_secs(5);
    tokio::time::advance(Duration::from_secs(5)).await;
    let limiter_before = sandbox(&store, start);
    for _ in 0..8 {
        limiter_before.acquire().await.unwrap();
        loops.call().await;
    }
    // The same moment, three seconds earlier by the clock.
    let limiter_after = sandbox(&store, later - Duration::from_secs(2));
    for _ in 0..16 {
        limiter_after.acquire().await.unwrap();
        assert_ne!(loops.call().await.outcome, CallOutcome::Responded(429));
    }
}

#[tokio::test(start_paused = true)]
async fn limiter_yields_quota_to_other_team_clients() {
    const SECONDS: u64 = 100;
    let (store, loops, start) = (InMemoryStore::default(), FakeLoops::default(), Instant::now());
    let deadline = start + Duration::from_secs(SECONDS);
    let other_clients = {
        let loops = loops.clone();
        tokio::spawn(async move {
            while Instant::now() < deadline {
                // Six a second.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(83..250))).await;
                let loops = loops.clone();
                tokio::spawn(async move { loops.call().await });
            }
        })
    };
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let limiter = sandbox(&store, start);
        for _ in 0..10 {
            workers.spawn(send_until(Arc::clone(&limiter), loops.clone(), deadline));
        }
    }
    let throttled: usize = workers.join_all().await.into_iter().sum();
    other_clients.await.unwrap();
    println!(
        "{throttled} of the relay's calls were answered with 429, {} were taken, of anybody",
        loops.accepted_calls()
    );
    assert!(throttled <= 10, "{throttled} of the relay's calls were answered with 429");
    assert!(loops.accepted_calls() >= 700, "{}", loops.accepted_calls());
}

/// Calls of one worker, batch after batch, each of ten groups whose calls take that long.
async fn send_batches(
    limiter: Arc<DistributedRateLimiter<InMemoryStore>>,
    calls: Arc<Held<Vec<Instant>>>,
    call_time: Duration,
    deadline: Instant,
) {
    while Instant::now() < deadline {
        let mut groups = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (limiter, calls) = (Arc::clone(&limiter), Arc::clone(&calls));
            groups.spawn(async move {
                // The record of the attempt's begin.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(2..20))).await;
                if limiter.acquire().await.is_ok() {
                    calls.lock().unwrap().push(Instant::now());
                    tokio::time::sleep(call_time).await;
                }
            });
        }
        groups.join_all().await;
    }
}

/// The most calls within any second.
fn most_in_a_second(calls: &[Instant]) -> usize {
    let second = Duration::from_secs(1);
    let within = |start: Instant| calls.iter().filter(|at| (start..start + second).contains(at)).count();
    calls.iter().map(|start| within(*start)).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn batches_of_two_workers_keep_the_rate_with_few_writes() {
    for call_millis in [300, 1000] {
        let (store, calls, start) = (InMemoryStore::default(), Arc::default(), Instant::now());
        let deadline = start + Duration::from_secs(300);
        let call_time = Duration::from_millis(call_millis);
        let workers = [sandbox(&store, start), sandbox(&store, start)];
        let workers = workers.map(|limiter| send_batches(limiter, Arc::clone(&calls), call_time, deadline));
        futures_util::future::join_all(workers).await;
        let (elapsed, calls) = (start.elapsed(), calls.lock().unwrap().clone());
        let ideal = elapsed.as_millis() * 8 / 1000;
        let sent = u128::try_from(calls.len()).unwrap();
        assert!(sent * 1000 >= ideal * 985, "{sent} of {ideal} with calls of {call_millis} ms");
        assert!(most_in_a_second(&calls) <= 9, "{} within a second", most_in_a_second(&calls));
        let writes = store.call_count.load(Ordering::Relaxed);
        assert!(writes * 5 <= calls.len() * 2, "{writes} writes for {} calls", calls.len());
    }
}

#[tokio::test(start_paused = true)]
async fn calls_reserved_before_a_freeze_are_not_made_after_it() {
    let (store, start) = (InMemoryStore::default(), Instant::now());
    let limiter = sandbox(&store, start);
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move { limiter.acquire().await.map(|()| Instant::now()) })
        })
        .collect();
    // Nobody runs for a minute, and all timers have ended by then.
    tokio::time::sleep(Duration::from_millis(40)).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let thawed_at = Instant::now();
    let mut called_at = Vec::new();
    for caller in callers {
        called_at.push(caller.await.unwrap().unwrap());
    }
    called_at.retain(|at| *at >= thawed_at);
    assert!(called_at.len() >= 9 && most_in_a_second(&called_at) <= 9, "{called_at:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_killed_worker_are_lost_and_delay_others_briefly() {
    let (store, start) = (InMemoryStore::default(), Instant::now());
    let killed = sandbox(&store, start);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let killed = Arc::clone(&killed);
        callers.spawn(async move { killed.acquire().await });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    callers.shutdown().await;
    drop(killed);
    sandbox(&store, start).acquire().await.unwrap();
    assert!(start.elapsed() <= Duration::from_millis(10 * 125 + 100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn probe_of_an_open_breaker_reserves_no_other_call() {
    let (store, start) = (InMemoryStore::default(), Instant::now());
    let limiter = sandbox(&store, start);
    while !matches!(limiter.readiness(), Readiness::Unavailable(_)) {
        limiter.record(&DestinationResponse::without_response(CallOutcome::Responded(503))).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(limiter.readiness(), Readiness::HalfOpen);
    // So all callers wait when the first is let through.
    limiter.local_limiter.throttle_for(Duration::from_millis(50)).await;
    let before = limiter.clock.now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let limiter = Arc::clone(&limiter);
        callers.spawn(async move { limiter.acquire().await });
    }
    let probes = callers.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(probes, 1);
    let ahead = store.load().await.unwrap().next_at.unwrap().duration_since(before);
    assert!(ahead <= SignedDuration::from_millis(2 * 125 + 50), "{ahead:?}");
}
