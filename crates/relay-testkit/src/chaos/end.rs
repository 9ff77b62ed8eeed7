//! A far end, Loops or Clay, that ails: what it does with a request follows from the seed and from what the request is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::chaos::fate::{ELSEWHERE, FULL, Fate, TAKEN, full, pick, without_reading};
use crate::chaos::history::{Came, Item, Kind, Outcome};
use crate::chaos::kinds::{Ailment, Fault};
use crate::mock_destination::{Got, request, reset};

/// What both ends take in a second.
const PER_SECOND: usize = 10;
/// The end.
#[derive(Debug)]
pub struct End {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    ailments: Vec<Ailment>,
    ailing_of_ten: u64,
    /// Whether it refuses some for good.
    refuses: bool,
    key: String,
    /// The calls of the last second, while it is well.
    calls: VecDeque<Instant>,
    /// How often each item came.
    seen: BTreeMap<Item, u64>,
    connections: u64,
    came: Vec<Came>,
    event_keys: BTreeSet<String>,
    unsaid: Vec<Item>,
    ailed: usize,
    too_many: usize,
    redirects_followed: usize,
}

/// What an end knows when all is over.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What came to it, in its order.
    pub came: Vec<Came>,
    /// What it took without saying so; an item as often as that was so.
    pub unsaid: Vec<Item>,
    /// How many requests met its ailment, or came with a key that is not its own.
    pub ailed: usize,
    /// How many requests it refused because more than ten came within a second, while it was well.
    pub too_many: usize,
    /// How many requests came where a redirect led.
    pub redirects_followed: usize,
}

impl Drop for End {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl End {
    /// Starts one that has the ailments of this fault, and knows callers by this key.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(seed: u64, fault: &Fault, key: &str) -> Self {
        let (mut ailments, ailing_of_ten) = (fault.ailments.clone(), fault.ailing_of_ten);
        let refuses = ailments.contains(&Ailment::Refuses);
        ailments.retain(|ailment| *ailment != Ailment::Refuses);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|fault| panic!("{fault}"));
        let address = listener.local_addr().unwrap_or_else(|fault| panic!("{fault}"));
        let state = Arc::new(Mutex::new(State {
            seed,
            ailments,
            ailing_of_ten,
            refuses,
            key: key.to_owned(),
            calls: VecDeque::new(),
            seen: BTreeMap::new(),
            connections: 0,
            came: Vec::new(),
            event_keys: BTreeSet::new(),
            unsaid: Vec::new(),
            ailed: 0,
            too_many: 0,
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
    pub fn rotate(&self, key: &str) {
        key.clone_into(&mut lock(&self.state).key);
    }

    /// It is well from now on; what it refuses for good, it goes on refusing.
    pub fn heal(&self) {
        lock(&self.state).ailments.clear();
    }

    /// What it knows.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = lock(&self.state);
        Report {
            came: state.came.clone(),
            unsaid: state.unsaid.clone(),
            ailed: state.ailed,
            too_many: state.too_many,
            redirects_followed: state.redirects_followed,
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A number that follows from the seed and from what it is for.
    fn chance(&self, what: impl std::hash::Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, what).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether a new connection is reset before anything is read of it.
    fn resets_unread(&mut self) -> bool {
        self.connections += 1;
        let chance = self.chance(("connection", self.connections));
        let resets = self.ailments.get(pick(chance, self.ailments.len())) == Some(&Ailment::Resets);
        let resets = resets && (chance >> 32) % 10 < self.ailing_of_ten;
        self.ailed += usize::from(resets);
        resets
    }

    /// Whether there is room for another call within this second. Who is not well says something else anyway.
    fn has_room(&mut self) -> bool {
        if !self.ailments.is_empty() {
            return true;
        }
        let now = Instant::now();
        while self.calls.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
            self.calls.pop_front();
        }
        if self.calls.len() >= PER_SECOND {
            self.too_many += 1;
            return false;
        }
        self.calls.push_back(now);
        true
    }

    fn fate(&mut self, got: &Got) -> Fate {
        if got.path == ELSEWHERE {
            self.redirects_followed += 1;
            return Fate::Answer(200, Vec::new(), TAKEN);
        }
        let has_room = self.has_room();
        if got.method == "GET" {
            let (status, list) = if has_room { (200, "[]") } else { (429, FULL) };
            return Fate::Answer(status, Vec::new(), list);
        }
        let item = item_of(got).unwrap_or_else(|| panic!("nobody sent this: {} {}", got.path, got.text()));
        let (fate, outcome) = if has_room { self.meet(got, &item) } else { (full(), Outcome::Failed) };
        self.came.push(Came { item, outcome, at: Timestamp::now() });
        fate
    }

    fn meet(&mut self, got: &Got, item: &Item) -> (Fate, Outcome) {
        let key = &self.key;
        if got.header("authorization") != format!("Bearer {key}") && got.header("x-clay-webhook-auth") != key {
            self.ailed += 1;
            return (Fate::Answer(401, Vec::new(), r#"{"message":"Invalid API key"}"#), Outcome::Failed);
        }
        let times = self.seen.entry(item.clone()).or_default();
        *times += 1;
        let times = *times;
        let chance = self.chance((item, times));
        let ails = (chance >> 32) % 10 < self.ailing_of_ten;
        let ailment = self.ailments.get(pick(chance, self.ailments.len())).copied().filter(|_| ails);
        self.ailed += usize::from(ailment.is_some());
        let chance = chance >> 40;
        match ailment.and_then(|ailment| without_reading(ailment, chance)) {
            Some(fate) => (fate, Outcome::Failed),
            None => self.read(ailment, got, item),
        }
    }

    /// What it does with a request that it reads.
    fn read(&mut self, ailment: Option<Ailment>, got: &Got, item: &Item) -> (Fate, Outcome) {
        if let Some(status) = self.refusal(item) {
            self.ailed += 1;
            return (Fate::Answer(status, Vec::new(), r#"{"success":false,"message":"no"}"#), Outcome::Refused);
        }
        if !self.is_new(got, item) {
            let known = r#"{"message":"Idempotency key in use"}"#;
            return (Fate::Answer(409, Vec::new(), known), Outcome::Failed);
        }
        let fate = match ailment {
            Some(Ailment::BreaksOff) => Fate::BreakOff(200),
            Some(Ailment::Drips) => Fate::Drip,
            Some(Ailment::TakesThenResets) => {
                self.unsaid.push(item.clone());
                Fate::Reset
            }
            _ => Fate::Answer(200, vec![("Content-Type", "application/json".to_owned())], TAKEN),
        };
        (fate, Outcome::Taken)
    }

    /// The status with which it refuses an item for good: one of every three steps of a contact.
    fn refusal(&self, item: &Item) -> Option<u16> {
        let place = u32::try_from(self.chance(("refuses", &item.contact)) % 3).unwrap_or_default();
        let statuses: &[u16] = match item.kind {
            Kind::Webhook => &[400, 422],
            Kind::Contact | Kind::Event => &[400, 404, 422],
        };
        let refuses = self.refuses && (item.step + place).is_multiple_of(3);
        refuses.then(|| statuses.get(pick(self.chance(item), statuses.len())).copied()).flatten()
    }

    /// Whether an item is none that it knows: an event whose key came before.
    fn is_new(&mut self, got: &Got, item: &Item) -> bool {
        let key = got.header("idempotency-key");
        item.kind != Kind::Event || key.is_empty() || self.event_keys.insert(key.to_owned())
    }
}

/// What a request is about.
fn item_of(got: &Got) -> Option<Item> {
    let kind = if got.path.ends_with("/events/send") {
        Kind::Event
    } else if got.path.ends_with("/contacts/update") {
        Kind::Contact
    } else {
        Kind::Webhook
    };
    Item::read(kind, &got.body)
}

async fn serve(mut stream: BufReader<TcpStream>, state: Arc<Mutex<State>>) {
    if lock(&state).resets_unread() {
        return reset(&stream);
    }
    while let Some(got) = request(&mut stream).await {
        let fate = if got.method == "HEAD" { Fate::Answer(200, Vec::new(), "") } else { lock(&state).fate(&got) };
        if fate.meet(&mut stream).await.is_none() {
            return;
        }
    }
}
