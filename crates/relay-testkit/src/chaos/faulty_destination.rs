//! Loops or Clay with destination faults. The response to a request follows from the seed and the request's item.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::chaos::history::{DestinationOutcome, Item, ItemKind, ReceivedItem};
use crate::chaos::kinds::{DestinationFault, FaultScenario};
use crate::chaos::response_plan::{
    ACCEPTED_BODY, RATE_LIMITED_BODY, REDIRECT_TARGET, ResponsePlan, pick_index, plan_without_reading, rate_limited,
};
use crate::mock_destination::{ReceivedRequest, read_request, reset_on_close};

/// Rate limit of either destination.
const MAX_REQUESTS_PER_SECOND: usize = 10;
/// A destination with faults.
#[derive(Debug)]
pub struct FaultyDestination {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    faults: Vec<DestinationFault>,
    faults_per_ten: u64,
    /// Whether it refuses some for good.
    rejects_some: bool,
    key: String,
    /// The calls of the last second, while it is well.
    recent_calls: VecDeque<Instant>,
    /// Number of requests for each item.
    attempts: BTreeMap<Item, u64>,
    connections: u64,
    received: Vec<ReceivedItem>,
    idempotency_keys: BTreeSet<String>,
    accepted_silently: Vec<Item>,
    faults_hit: usize,
    rate_limit_violations: usize,
    redirects_followed: usize,
}

/// What a destination has seen at the end of a scenario.
#[derive(Debug, Clone, Default)]
pub struct DestinationReport {
    /// The requests in order of arrival.
    pub received: Vec<ReceivedItem>,
    /// Items accepted without a response, once for each time.
    pub accepted_silently: Vec<Item>,
    /// Requests that met a destination fault, or had a wrong key.
    pub faults_hit: usize,
    /// Requests over the rate limit while the destination had no fault.
    pub rate_limit_violations: usize,
    /// Requests to a redirect's target.
    pub redirects_followed: usize,
}

impl Drop for FaultyDestination {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FaultyDestination {
    /// Starts a destination with the faults of a scenario, whose callers must use this key.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(seed: u64, scenario: &FaultScenario, key: &str) -> Self {
        let (mut faults, faults_per_ten) = (scenario.destination_faults.clone(), scenario.faults_per_ten);
        let rejects_some = faults.contains(&DestinationFault::RejectSome);
        faults.retain(|fault| *fault != DestinationFault::RejectSome);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let state = Arc::new(Mutex::new(State {
            seed,
            faults,
            faults_per_ten,
            rejects_some,
            key: key.to_owned(),
            recent_calls: VecDeque::new(),
            attempts: BTreeMap::new(),
            connections: 0,
            received: Vec::new(),
            idempotency_keys: BTreeSet::new(),
            accepted_silently: Vec::new(),
            faults_hit: 0,
            rate_limit_violations: 0,
            redirects_followed: 0,
        }));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(BufReader::new(stream), Arc::clone(&shared)));
            }
        });
        Self { address, state, server }
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it knows callers by this key, and by no other.
    pub fn rotate_key(&self, key: &str) {
        key.clone_into(&mut lock(&self.state).key);
    }

    /// Ends the faults, except for the permanent rejections.
    pub fn clear_faults(&self) {
        lock(&self.state).faults.clear();
    }

    /// Returns what it has seen.
    #[must_use]
    pub fn report(&self) -> DestinationReport {
        let state = lock(&self.state);
        DestinationReport {
            received: state.received.clone(),
            accepted_silently: state.accepted_silently.clone(),
            faults_hit: state.faults_hit,
            rate_limit_violations: state.rate_limit_violations,
            redirects_followed: state.redirects_followed,
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Returns a number that follows from the seed and the input.
    fn pseudo_random(&self, input: impl std::hash::Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, input).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether a new connection is reset before anything is read of it.
    fn should_reset_connection(&mut self) -> bool {
        self.connections += 1;
        let random = self.pseudo_random(("connection", self.connections));
        let resets = self.faults.get(pick_index(random, self.faults.len())) == Some(&DestinationFault::Reset);
        let resets = resets && (random >> 32) % 10 < self.faults_per_ten;
        self.faults_hit += usize::from(resets);
        resets
    }

    /// Returns whether another request fits into the rate limit. A destination with faults does not enforce it.
    fn check_rate_limit(&mut self) -> bool {
        if !self.faults.is_empty() {
            return true;
        }
        let now = Instant::now();
        while self.recent_calls.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
            self.recent_calls.pop_front();
        }
        if self.recent_calls.len() >= MAX_REQUESTS_PER_SECOND {
            self.rate_limit_violations += 1;
            return false;
        }
        self.recent_calls.push_back(now);
        true
    }

    fn plan_response(&mut self, request: &ReceivedRequest) -> ResponsePlan {
        if request.path == REDIRECT_TARGET {
            self.redirects_followed += 1;
            return ResponsePlan::Respond(200, Vec::new(), ACCEPTED_BODY);
        }
        let within_limit = self.check_rate_limit();
        if request.method == "GET" {
            let (status, list) = if within_limit { (200, "[]") } else { (429, RATE_LIMITED_BODY) };
            return ResponsePlan::Respond(status, Vec::new(), list);
        }
        let item =
            item_from_request(request).unwrap_or_else(|| panic!("never sent: {} {}", request.path, request.text()));
        let (plan, outcome) =
            if within_limit { self.respond(request, &item) } else { (rate_limited(), DestinationOutcome::Failed) };
        self.received.push(ReceivedItem { item, outcome, at: Timestamp::now() });
        plan
    }

    fn respond(&mut self, request: &ReceivedRequest, item: &Item) -> (ResponsePlan, DestinationOutcome) {
        let key = &self.key;
        if request.header("authorization") != format!("Bearer {key}") && request.header("x-clay-webhook-auth") != key {
            self.faults_hit += 1;
            return (
                ResponsePlan::Respond(401, Vec::new(), r#"{"message":"Invalid API key"}"#),
                DestinationOutcome::Failed,
            );
        }
        let attempts = self.attempts.entry(item.clone()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        let random = self.pseudo_random((item, attempt));
        let is_faulty = (random >> 32) % 10 < self.faults_per_ten;
        let fault = self.faults.get(pick_index(random, self.faults.len())).copied().filter(|_| is_faulty);
        self.faults_hit += usize::from(fault.is_some());
        let random = random >> 40;
        match fault.and_then(|fault| plan_without_reading(fault, random)) {
            Some(plan) => (plan, DestinationOutcome::Failed),
            None => self.respond_to_body(fault, request, item),
        }
    }

    /// Decides on a request whose body it reads.
    fn respond_to_body(
        &mut self,
        fault: Option<DestinationFault>,
        request: &ReceivedRequest,
        item: &Item,
    ) -> (ResponsePlan, DestinationOutcome) {
        if let Some(status) = self.rejection_status(item) {
            self.faults_hit += 1;
            return (
                ResponsePlan::Respond(status, Vec::new(), r#"{"success":false,"message":"no"}"#),
                DestinationOutcome::Rejected,
            );
        }
        if !self.is_new(request, item) {
            let conflict_body = r#"{"message":"Idempotency key in use"}"#;
            return (ResponsePlan::Respond(409, Vec::new(), conflict_body), DestinationOutcome::Failed);
        }
        let plan = match fault {
            Some(DestinationFault::TruncatedBody) => ResponsePlan::TruncatedBody(200),
            Some(DestinationFault::SlowBody) => ResponsePlan::Drip,
            Some(DestinationFault::AcceptThenReset) => {
                self.accepted_silently.push(item.clone());
                ResponsePlan::Reset
            }
            _ => ResponsePlan::Respond(200, vec![("Content-Type", "application/json".to_owned())], ACCEPTED_BODY),
        };
        (plan, DestinationOutcome::Accepted)
    }

    /// The status with which it refuses an item for good: one of every three steps of a contact.
    fn rejection_status(&self, item: &Item) -> Option<u16> {
        let offset = u32::try_from(self.pseudo_random(("refuses", &item.contact)) % 3).unwrap_or_default();
        let statuses: &[u16] = match item.kind {
            ItemKind::Webhook => &[400, 422],
            ItemKind::Contact | ItemKind::Event | ItemKind::Email => &[400, 404, 422],
        };
        let rejects = self.rejects_some && (item.step + offset).is_multiple_of(3);
        rejects.then(|| statuses.get(pick_index(self.pseudo_random(item), statuses.len())).copied()).flatten()
    }

    /// Returns whether the item is new: an event or an e-mail whose key has not been seen.
    fn is_new(&mut self, request: &ReceivedRequest, item: &Item) -> bool {
        let key = request.header("idempotency-key");
        !item.kind.has_key() || key.is_empty() || self.idempotency_keys.insert(key.to_owned())
    }
}

/// What a request is about.
fn item_from_request(request: &ReceivedRequest) -> Option<Item> {
    let kind = if request.path.ends_with("/events/send") {
        ItemKind::Event
    } else if request.path.ends_with("/v1/transactional") {
        ItemKind::Email
    } else if request.path.ends_with("/contacts/update") {
        ItemKind::Contact
    } else {
        ItemKind::Webhook
    };
    Item::parse_body(kind, &request.body)
}

async fn serve(mut stream: BufReader<TcpStream>, state: Arc<Mutex<State>>) {
    if lock(&state).should_reset_connection() {
        return reset_on_close(&stream);
    }
    while let Some(received) = read_request(&mut stream).await {
        let plan = if received.method == "HEAD" {
            ResponsePlan::Respond(200, Vec::new(), "")
        } else {
            lock(&state).plan_response(&received)
        };
        if plan.execute(&mut stream).await.is_none() {
            return;
        }
    }
}
