//! A far end in simulated time: ten calls in any second and not one more, some latency, and hours in which it is down.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use relay::destination::clay::ClayClient;
use relay::destination::http_client::DestinationResponse;
use relay::destination::loops::{LoopsApi, LoopsCall};
use relay::destination::rate_limit_headers::QuotaHeaders;
use relay_core::delivery::DeliveryId;
use relay_core::delivery::DeliveryKind;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::SecretString;
use relay_core::webhook::route::ClayWebhook;

use super::Simulated;

/// How many calls it takes in any second.
const PER_SECOND: u32 = 10;
/// What a call takes to arrive at most, and its answer to come back, at an end that is prompt.
const LATENCY_MILLISECONDS: u64 = 100;

/// Loops or Clay. Clones share it, and it outlives the relay.
#[derive(Debug, Clone)]
pub struct End {
    world: Arc<Simulated>,
    state: Arc<Mutex<State>>,
}

/// What an end has seen.
#[derive(Debug)]
pub struct State {
    rng: Rng,
    /// When calls were taken, as far back as they count.
    window: VecDeque<Duration>,
    /// How often each row was taken, by its number.
    taken: Vec<u8>,
    /// The rows that were taken and whose answer is on its way.
    answering: BTreeSet<usize>,
    /// The rows whose answer has come, and when: those of the last second.
    answered: VecDeque<(Duration, usize)>,
    /// What it takes over each answer.
    takes: Duration,
    /// When each row was taken first.
    taken_at: Vec<Option<Duration>>,
    /// From when until when it is down.
    down: (Duration, Duration),
    /// The rows before this one fail whenever they come.
    poison: usize,
    /// How many calls failed for that.
    pub poisoned: u64,
    /// How many calls came while it was down.
    pub while_down: u64,
    /// How many calls it had to refuse because there were too many.
    pub refused: u64,
    /// When the last row was taken that had not been taken before.
    pub last_taken: Duration,
    /// The keys of events that it knows, as hashes; there is room for all of them from the beginning.
    keys: HashSet<u64>,
}

impl State {
    /// An end for so many rows.
    #[must_use]
    pub fn new(rows: usize, seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            rng: Rng::with_seed(seed),
            window: VecDeque::new(),
            taken: vec![0; rows],
            taken_at: vec![None; rows],
            answering: BTreeSet::new(),
            answered: VecDeque::new(),
            takes: Duration::ZERO,
            down: (Duration::ZERO, Duration::ZERO),
            poison: 0,
            poisoned: 0,
            while_down: 0,
            refused: 0,
            last_taken: Duration::ZERO,
            keys: HashSet::with_capacity(rows),
        }))
    }

    /// Takes that long over each answer from now on.
    pub const fn is_late(&mut self, takes: Duration) {
        self.takes = takes;
    }

    /// Is down for that time.
    pub fn goes_down(&mut self, from: Duration, until: Duration) {
        self.down = (from, until);
    }

    /// Answers each of the first so many rows with 500 whenever it comes.
    pub fn fails_at(&mut self, rows: usize) {
        self.poison = rows;
    }

    /// When a row was taken first.
    #[must_use]
    pub fn taken_at(&self, number: usize) -> Option<Duration> {
        self.taken_at.get(number).copied().flatten()
    }

    /// How many different rows were taken.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.taken.iter().filter(|taken| **taken > 0).count()
    }

    /// The rows that were taken more than once.
    #[must_use]
    pub fn doubled(&self) -> BTreeSet<usize> {
        self.taken.iter().enumerate().filter(|(_, taken)| **taken > 1).map(|(number, _)| number).collect()
    }

    /// The rows that were taken and whose answer nobody has got, now that the relay was killed, or has got so short a time
    /// ago that it may not be on record.
    pub fn unrecorded(&mut self, now: Duration, record_takes: Duration) -> BTreeSet<usize> {
        let just_now = self.answered.drain(..).filter(|(at, _)| now.saturating_sub(*at) < record_takes);
        just_now.map(|(_, number)| number).chain(std::mem::take(&mut self.answering)).collect()
    }

    fn has_answered(&mut self, number: usize, now: Duration) {
        self.answering.remove(&number);
        while self.answered.front().is_some_and(|(at, _)| now.saturating_sub(*at) > Duration::from_secs(1)) {
            self.answered.pop_front();
        }
        self.answered.push_back((now, number));
    }

    fn take(&mut self, number: usize, key: Option<&str>, now: Duration) -> DestinationResponse {
        while self.window.front().is_some_and(|at| now.saturating_sub(*at) >= Duration::from_secs(1)) {
            self.window.pop_front();
        }
        let used = u32::try_from(self.window.len()).unwrap_or(u32::MAX);
        let Some(remaining) = PER_SECOND.checked_sub(used.saturating_add(1)) else {
            self.refused += 1;
            let room = Some(QuotaHeaders { limit: PER_SECOND, remaining: 0 });
            return DestinationResponse {
                rate_limit: room,
                ..DestinationResponse::without_response(CallOutcome::Answered(429))
            };
        };
        self.window.push_back(now);
        let room = Some(QuotaHeaders { limit: PER_SECOND, remaining });
        if key.is_some_and(|key| !self.keys.insert(hash(key))) {
            return DestinationResponse {
                rate_limit: room,
                ..DestinationResponse::without_response(CallOutcome::Answered(409))
            };
        }
        if let Some(taken) = self.taken.get_mut(number) {
            if *taken == 0 {
                self.last_taken = now;
                self.taken_at.iter_mut().skip(number).take(1).for_each(|at| *at = Some(now));
            }
            *taken = taken.saturating_add(1);
            self.answering.insert(number);
        }
        DestinationResponse {
            rate_limit: room,
            body: Bytes::from_static(b"{}"),
            ..DestinationResponse::without_response(CallOutcome::Answered(200))
        }
    }
}

impl End {
    /// The end in this world.
    #[must_use]
    pub const fn new(world: Arc<Simulated>, state: Arc<Mutex<State>>) -> Self {
        Self { world, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn travel(&self) {
        let milliseconds = self.state().rng.u64(0..LATENCY_MILLISECONDS);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    async fn call(&self, body: &[u8], key: Option<&str>, timeout: Duration) -> DestinationResponse {
        self.travel().await;
        let (now, number) = (self.world.elapsed(), number_in(body));
        let down = {
            let mut state = self.state();
            let down = (state.down.0..state.down.1).contains(&now);
            state.while_down += u64::from(down);
            down.then(|| state.rng.u8(0..3))
        };
        match down {
            Some(0) => {
                tokio::time::sleep(timeout).await;
                return DestinationResponse::without_response(CallOutcome::TimedOut);
            }
            Some(1) => return DestinationResponse::without_response(CallOutcome::Unreachable),
            Some(_) => return DestinationResponse::without_response(CallOutcome::Answered(503)),
            None => {}
        }
        let poisoned = {
            let mut state = self.state();
            let poisoned = number < state.poison;
            state.poisoned += u64::from(poisoned);
            poisoned
        };
        if poisoned {
            self.travel().await;
            return DestinationResponse::without_response(CallOutcome::Answered(500));
        }
        let answer = self.state().take(number, key, now);
        let takes = self.state().takes;
        tokio::time::sleep(takes).await;
        self.travel().await;
        let now = self.world.elapsed();
        self.state().has_answered(number, now);
        answer
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The number of a row, which its address begins with: `n7@example.com`.
fn number_in(body: &[u8]) -> usize {
    let text = String::from_utf8_lossy(body);
    let number = text.split("\"n").find_map(|rest| rest.split_once("@example.com")?.0.parse().ok());
    number.unwrap_or(usize::MAX)
}

impl ClayClient for End {
    async fn post(&self, _: &ClayWebhook, _: &DeliveryId, row: Bytes, timeout: Duration) -> DestinationResponse {
        // Clay says nothing of its room.
        DestinationResponse { rate_limit: None, ..self.call(&row, None, timeout).await }
    }
}

impl LoopsApi for End {
    async fn call(&self, call: LoopsCall<'_>) -> DestinationResponse {
        let key = match call.cargo {
            DeliveryKind::LoopsEvent { key } => Some(key.as_str()),
            DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => None,
        };
        Self::call(self, call.body, key, call.timeout).await
    }

    async fn properties(&self, _: &SecretString, _: Duration) -> DestinationResponse {
        DestinationResponse::without_response(CallOutcome::Answered(404))
    }
}
