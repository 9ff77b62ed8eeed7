//! A destination in simulated time, with a strict rate limit of ten calls in any second, some latency, and an outage.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use relay::destination::clay::ClayClient;
use relay::destination::http_client::DestinationResponse;
use relay::destination::loops::LoopsClient;
use relay::destination::rate_limit_headers::QuotaHeaders;
use relay_core::delivery::{Delivery, DeliveryId};
use relay_core::idempotency::IdempotencyKey;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::SecretString;
use relay_core::webhook::route::ClayWebhook;

use super::SimulatedClock;

/// Calls accepted in any second.
const MAX_CALLS_PER_SECOND: u32 = 10;
/// Maximum time for a request to arrive, and for a prompt destination's response to come back.
const MAX_LATENCY_MS: u64 = 100;

/// How long Loops knows a key (Loops API reference, "Send event").
const KEY_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Loops or Clay. Clones share it, and it outlives the relay.
#[derive(Debug, Clone)]
pub struct SimulatedDestination {
    clock: Arc<SimulatedClock>,
    state: Arc<Mutex<DestinationState>>,
}

/// State of a destination.
#[derive(Debug)]
pub struct DestinationState {
    rng: Rng,
    /// Times of the accepted calls within the rate limit's window.
    window: VecDeque<Duration>,
    /// Times each row was accepted, by its number.
    accepted_counts: Vec<u8>,
    /// Accepted rows whose response is on its way.
    responding: BTreeSet<usize>,
    /// Rows of the last second's responses, with their times.
    responded: VecDeque<(Duration, usize)>,
    /// Additional time for each response.
    response_delay: Duration,
    /// When each row was first accepted.
    accepted_at: Vec<Option<Duration>>,
    /// From when until when it is down.
    outage: (Duration, Duration),
    /// Rows with lower numbers always fail.
    poison_rows: usize,
    /// How many calls failed for that.
    pub poison_failures: u64,
    /// Calls during the outage.
    pub calls_during_outage: u64,
    /// Calls rejected by the rate limit.
    pub throttled: u64,
    /// When a new row was last accepted.
    pub last_accepted_at: Duration,
    /// Hashes of the known event keys, and when each was taken; preallocated, so that the heap does not grow.
    idempotency_keys: HashMap<u64, Duration>,
    /// Until when it accepts rows and does not respond.
    silent_until: Duration,
    /// Calls answered 409, because their key was known.
    pub repeats: u64,
}

impl DestinationState {
    /// Creates a destination for that many rows.
    #[must_use]
    pub fn new(rows: usize, seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            rng: Rng::with_seed(seed),
            window: VecDeque::new(),
            accepted_counts: vec![0; rows],
            accepted_at: vec![None; rows],
            responding: BTreeSet::new(),
            responded: VecDeque::new(),
            response_delay: Duration::ZERO,
            outage: (Duration::ZERO, Duration::ZERO),
            poison_rows: 0,
            poison_failures: 0,
            calls_during_outage: 0,
            throttled: 0,
            last_accepted_at: Duration::ZERO,
            idempotency_keys: HashMap::with_capacity(rows),
            silent_until: Duration::ZERO,
            repeats: 0,
        }))
    }

    /// Adds a delay to each response from now on.
    pub const fn set_response_delay(&mut self, delay: Duration) {
        self.response_delay = delay;
    }

    /// Accepts rows and does not respond, until that time.
    pub const fn set_silent(&mut self, until: Duration) {
        self.silent_until = until;
    }

    /// Is down for that time.
    pub fn set_outage(&mut self, from: Duration, until: Duration) {
        self.outage = (from, until);
    }

    /// Responds with 500 to each of the first `rows` rows.
    pub fn fail_first(&mut self, rows: usize) {
        self.poison_rows = rows;
    }

    /// Returns when a row was first accepted.
    #[must_use]
    pub fn accepted_at(&self, number: usize) -> Option<Duration> {
        self.accepted_at.get(number).copied().flatten()
    }

    /// Returns the number of distinct accepted rows.
    #[must_use]
    pub fn distinct_rows(&self) -> usize {
        self.accepted_counts.iter().filter(|taken| **taken > 0).count()
    }

    /// Returns the rows that were accepted more than once.
    #[must_use]
    pub fn duplicated(&self) -> BTreeSet<usize> {
        self.accepted_counts.iter().enumerate().filter(|(_, taken)| **taken > 1).map(|(number, _)| number).collect()
    }

    /// Returns the accepted rows that the relay may not have recorded when it was killed: their response had not
    /// arrived, or had arrived less than `record_latency` ago.
    pub fn unrecorded(&mut self, now: Duration, record_latency: Duration) -> BTreeSet<usize> {
        let just_now = self.responded.drain(..).filter(|(at, _)| now.saturating_sub(*at) < record_latency);
        just_now.map(|(_, number)| number).chain(std::mem::take(&mut self.responding)).collect()
    }

    /// Takes a key that is new, or older than Loops remembers. Returns false if it is known.
    fn remember_key(&mut self, key: &str, now: Duration) -> bool {
        let is_known = self.idempotency_keys.get(&hash(key)).is_some_and(|at| now.saturating_sub(*at) < KEY_MEMORY);
        if !is_known {
            self.idempotency_keys.insert(hash(key), now);
        }
        !is_known
    }

    fn record_response(&mut self, number: usize, now: Duration) {
        self.responding.remove(&number);
        while self.responded.front().is_some_and(|(at, _)| now.saturating_sub(*at) > Duration::from_secs(1)) {
            self.responded.pop_front();
        }
        self.responded.push_back((now, number));
    }

    fn respond(&mut self, number: usize, key: Option<&str>, now: Duration) -> DestinationResponse {
        while self.window.front().is_some_and(|at| now.saturating_sub(*at) >= Duration::from_secs(1)) {
            self.window.pop_front();
        }
        let used = u32::try_from(self.window.len()).unwrap_or(u32::MAX);
        let Some(remaining) = MAX_CALLS_PER_SECOND.checked_sub(used.saturating_add(1)) else {
            self.throttled += 1;
            let quota = Some(QuotaHeaders { limit: MAX_CALLS_PER_SECOND, remaining: 0 });
            return DestinationResponse {
                rate_limit: quota,
                ..DestinationResponse::without_response(CallOutcome::Responded(429))
            };
        };
        self.window.push_back(now);
        let quota = Some(QuotaHeaders { limit: MAX_CALLS_PER_SECOND, remaining });
        if key.is_some_and(|key| !self.remember_key(key, now)) {
            self.repeats += 1;
            return DestinationResponse {
                rate_limit: quota,
                ..DestinationResponse::without_response(CallOutcome::Responded(409))
            };
        }
        if let Some(accepted_count) = self.accepted_counts.get_mut(number) {
            if *accepted_count == 0 {
                self.last_accepted_at = now;
                self.accepted_at.iter_mut().skip(number).take(1).for_each(|at| *at = Some(now));
            }
            *accepted_count = accepted_count.saturating_add(1);
            self.responding.insert(number);
        }
        DestinationResponse {
            rate_limit: quota,
            body: Bytes::from_static(b"{}"),
            ..DestinationResponse::without_response(CallOutcome::Responded(200))
        }
    }
}

impl SimulatedDestination {
    /// The end in this world.
    #[must_use]
    pub const fn new(clock: Arc<SimulatedClock>, state: Arc<Mutex<DestinationState>>) -> Self {
        Self { clock, state }
    }

    fn state(&self) -> MutexGuard<'_, DestinationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn network_delay(&self) {
        let milliseconds = self.state().rng.u64(0..MAX_LATENCY_MS);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    async fn call(&self, body: &[u8], key: Option<&str>, timeout: Duration) -> DestinationResponse {
        self.network_delay().await;
        let (now, number) = (self.clock.elapsed(), row_number(body));
        let failure_mode = {
            let mut state = self.state();
            let is_down = (state.outage.0..state.outage.1).contains(&now);
            state.calls_during_outage += u64::from(is_down);
            is_down.then(|| state.rng.u8(0..3))
        };
        match failure_mode {
            Some(0) => {
                tokio::time::sleep(timeout).await;
                return DestinationResponse::without_response(CallOutcome::TimedOut);
            }
            Some(1) => return DestinationResponse::without_response(CallOutcome::Unreachable),
            Some(_) => return DestinationResponse::without_response(CallOutcome::Responded(503)),
            None => {}
        }
        let poisoned = {
            let mut state = self.state();
            let poisoned = number < state.poison_rows;
            state.poison_failures += u64::from(poisoned);
            poisoned
        };
        if poisoned {
            self.network_delay().await;
            return DestinationResponse::without_response(CallOutcome::Responded(500));
        }
        let response = self.state().respond(number, key, now);
        if now < self.state().silent_until {
            tokio::time::sleep(timeout).await;
            return DestinationResponse::without_response(CallOutcome::TimedOut);
        }
        let delay = self.state().response_delay;
        tokio::time::sleep(delay).await;
        self.network_delay().await;
        let now = self.clock.elapsed();
        self.state().record_response(number, now);
        response
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The number of a row, which its address begins with: `n7@example.com`.
fn row_number(body: &[u8]) -> usize {
    let text = String::from_utf8_lossy(body);
    let number = text.split("\"n").find_map(|rest| rest.split_once("@example.com")?.0.parse().ok());
    number.unwrap_or(usize::MAX)
}

impl ClayClient for SimulatedDestination {
    async fn post(&self, _: &ClayWebhook, _: &DeliveryId, row: Bytes, timeout: Duration) -> DestinationResponse {
        // Clay reports no remaining quota.
        DestinationResponse { rate_limit: None, ..self.call(&row, None, timeout).await }
    }
}

impl LoopsClient for SimulatedDestination {
    async fn send(&self, delivery: &Delivery, _: &SecretString, timeout: Duration) -> DestinationResponse {
        let key = delivery.kind.idempotency_key().map(IdempotencyKey::as_str);
        Self::call(self, &delivery.body, key, timeout).await
    }

    async fn read(&self, _: &str, _: &SecretString, _: Duration) -> DestinationResponse {
        DestinationResponse::without_response(CallOutcome::Responded(404))
    }
}
