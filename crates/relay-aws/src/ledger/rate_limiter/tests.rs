//! Sandboxes that keep one pace together, in simulated time.

use std::sync::Arc;
use std::sync::Mutex as Held;
use std::sync::atomic::{AtomicUsize, Ordering};

use relay::destination::rate_limit_headers::QuotaHeaders;
use relay_core::policy::response::CallOutcome;

use super::*;

/// The time that tokio's clock says.
#[derive(Debug, Clone, Copy)]
struct Simulated(Instant);

impl Clock for Simulated {
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
struct Shared {
    kept: Arc<Held<LimiterItem>>,
    asked: Arc<AtomicUsize>,
}

impl Shared {
    async fn reach(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(2..20))).await;
    }
}

impl LimiterStore for Shared {
    async fn read(&self) -> Result<LimiterItem, StoreError> {
        self.reach().await;
        Ok(*self.kept.lock().unwrap())
    }

    async fn change(
        &self,
        change: LimiterUpdate,
        _: Timestamp,
    ) -> Result<Result<LimiterItem, LimiterItem>, StoreError> {
        self.reach().await;
        let mut kept = self.kept.lock().unwrap();
        let (may, changed) = match change {
            LimiterUpdate::Advance { from, latest, interval } => {
                let there = kept.next_at.is_some_and(|at| (from..=latest).contains(&at));
                let open = kept.paused_until.is_none_or(|until| until <= from);
                (there && open, LimiterItem { next_at: kept.next_at.map(|at| at + interval), ..*kept })
            }
            LimiterUpdate::Reset { seen, next_at } => {
                let same = (seen.next_at, seen.paused_until) == (kept.next_at, kept.paused_until);
                (same, LimiterItem { next_at: Some(next_at), ..*kept })
            }
            LimiterUpdate::Throttle { until, slow_until } => (
                kept.paused_until.is_none_or(|at| at < until),
                LimiterItem { paused_until: Some(until), slow_until: slow_until.or(kept.slow_until), ..*kept },
            ),
        };
        if may {
            *kept = changed;
        }
        Ok(if may { Ok(changed) } else { Err(*kept) })
    }
}

/// A Loops that counts every call, and says what is left of any second.
#[derive(Debug, Clone, Default)]
struct Window(Arc<Held<Vec<Instant>>>);

impl Window {
    /// A call that takes up to a tenth of a second to arrive.
    async fn call(&self) -> DestinationResponse {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        let (now, mut calls) = (Instant::now(), self.0.lock().unwrap());
        let used = calls.iter().rev().take_while(|at| now - **at < Duration::from_secs(1)).count();
        let Some(remaining) = 9_u32.checked_sub(u32::try_from(used).unwrap()) else {
            let room = Some(QuotaHeaders { limit: 10, remaining: 0 });
            return DestinationResponse {
                rate_limit: room,
                ..DestinationResponse::without_response(CallOutcome::Answered(429))
            };
        };
        calls.push(now);
        DestinationResponse {
            rate_limit: Some(QuotaHeaders { limit: 10, remaining }),
            ..DestinationResponse::without_response(CallOutcome::Answered(200))
        }
    }

    fn taken(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn sandbox(item: &Shared, start: Instant) -> Arc<DistributedRateLimiter<Simulated, Shared>> {
    Arc::new(DistributedRateLimiter::new(item.clone(), NonZeroU32::new(8).unwrap(), Simulated(start)))
}

/// What a worker's group does for that long; how many of its calls were answered with 429.
async fn drain(pace: Arc<DistributedRateLimiter<Simulated, Shared>>, loops: Window, end: Instant) -> usize {
    let mut refused = 0;
    while Instant::now() < end {
        if pace.acquire().await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let answer = loops.call().await;
        pace.record(&answer).await;
        if answer.outcome == CallOutcome::Answered(429) {
            pace.throttle_for(Duration::from_secs(1)).await;
            refused += 1;
        }
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn two_workers_and_direct_rows_keep_eight_a_second_together_without_a_429() {
    const SECONDS: u64 = 300;
    let (item, loops, start) = (Shared::default(), Window::default(), Instant::now());
    let end = start + Duration::from_secs(SECONDS);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let pace = sandbox(&item, start);
        for _ in 0..10 {
            calls.spawn(drain(Arc::clone(&pace), loops.clone(), end));
        }
    }
    for _ in 0..5 {
        let (pace, loops) = (sandbox(&item, start), loops.clone());
        calls.spawn(async move {
            let mut refused = 0;
            while Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..3000))).await;
                let Some(turn) = pace.try_acquire().await else { continue };
                turn.wait().await;
                refused += usize::from(loops.call().await.outcome == CallOutcome::Answered(429));
            }
            refused
        });
    }
    assert_eq!(calls.join_all().await.into_iter().sum::<usize>(), 0, "of {}", loops.taken());
    let ideal = usize::try_from(8 * SECONDS).unwrap();
    assert!(loops.taken() * 100 >= ideal * 98, "{} calls in {SECONDS} s", loops.taken());
}

#[tokio::test(start_paused = true)]
async fn where_a_hundred_sandboxes_ask_at_once_each_asks_at_most_three_times() {
    let (item, start) = (Shared::default(), Instant::now());
    let mut rows = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let pace = sandbox(&item, start);
        rows.spawn(async move { pace.try_acquire().await });
    }
    let turns: Vec<_> = rows.join_all().await.into_iter().flatten().collect();
    assert!((4..=6).contains(&turns.len()), "{turns:?}");
    let asked = item.asked.load(Ordering::Relaxed);
    assert!(asked <= 300, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_whose_clock_was_minutes_ahead_holds_up_nobody_else() {
    let (item, start) = (Shared::default(), Instant::now());
    let ahead = start.checked_sub(Duration::from_secs(600)).unwrap();
    assert!(sandbox(&item, ahead).try_acquire().await.is_some());
    let (pace, asked_at) = (sandbox(&item, start), Instant::now());
    assert!(pace.try_acquire().await.is_some());
    pace.acquire().await.unwrap();
    assert!(asked_at.elapsed() < Duration::from_secs(1), "{:?}", asked_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_a_few_seconds_does_not_make_the_pace_faster() {
    let (item, loops, start) = (Shared::default(), Window::default(), Instant::now());
    let later = start + Duration::from_secs(5);
    tokio::time::advance(Duration::from_secs(5)).await;
    let before = sandbox(&item, start);
    for _ in 0..8 {
        before.acquire().await.unwrap();
        loops.call().await;
    }
    // The same moment, three seconds earlier by the clock.
    let after = sandbox(&item, later - Duration::from_secs(2));
    for _ in 0..16 {
        after.acquire().await.unwrap();
        assert_ne!(loops.call().await.outcome, CallOutcome::Answered(429));
    }
}

#[tokio::test(start_paused = true)]
async fn where_others_use_the_teams_second_all_sandboxes_leave_them_room() {
    const SECONDS: u64 = 100;
    let (item, loops, start) = (Shared::default(), Window::default(), Instant::now());
    let end = start + Duration::from_secs(SECONDS);
    let others = {
        let loops = loops.clone();
        tokio::spawn(async move {
            while Instant::now() < end {
                // Six a second.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(83..250))).await;
                let loops = loops.clone();
                tokio::spawn(async move { loops.call().await });
            }
        })
    };
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let pace = sandbox(&item, start);
        for _ in 0..10 {
            workers.spawn(drain(Arc::clone(&pace), loops.clone(), end));
        }
    }
    let refused: usize = workers.join_all().await.into_iter().sum();
    others.await.unwrap();
    println!("{refused} of the relay's calls were answered with 429, {} were taken, of anybody", loops.taken());
    assert!(refused <= 10, "{refused} of the relay's calls were answered with 429");
    assert!(loops.taken() >= 700, "{}", loops.taken());
}
