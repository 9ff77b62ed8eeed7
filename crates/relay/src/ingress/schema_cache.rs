//! The contact properties of the Loops account, cached for rows.
//!
//! A row never waits for the list. It takes what is known, and says that it would like to know more; a task beside the
//! rows reads the list then, once a quarter of an hour. Where the list cannot be had, rows pass as they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_core::policy::response::CallOutcome;
use relay_core::row::schema::ContactSchema;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::destination::loops::LoopsClient;
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::RateLimiter;
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};

/// How long a list is used before it is read again.
const TTL: SignedDuration = SignedDuration::from_mins(15);
/// How long it is used while it cannot be read again.
const MAX_STALE: SignedDuration = SignedDuration::from_hours(1);
/// How long nothing is read after the list was asked for, whatever came of it. From then on, a list that could not be had
/// is due, and a refused row is a reason to read one that is there: somebody may just have made the property.
const MIN_REFRESH_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// The longest that reading it may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The list as it is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SchemaCache(Option<Arc<CacheInner>>);

#[derive(Debug)]
struct CacheInner {
    state: Mutex<CacheState>,
    refresh_requested: Notify,
}

#[derive(Debug)]
struct CacheState {
    cached: Option<(Arc<ContactSchema>, Timestamp)>,
    /// From when on it is worth reading.
    refresh_at: Timestamp,
    /// Until when it is not read, whatever is doubted.
    no_refresh_before: Timestamp,
}

impl SchemaCache {
    /// A list that is never read: nothing is known of any property.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// A list that is read when it is first wanted.
    #[must_use]
    pub fn enabled() -> Self {
        let state =
            Mutex::new(CacheState { cached: None, refresh_at: Timestamp::MIN, no_refresh_before: Timestamp::MIN });
        Self(Some(Arc::new(CacheInner { state, refresh_requested: Notify::new() })))
    }

    /// The list as the settings want it.
    #[must_use]
    pub fn new(typed_properties: bool) -> Self {
        if typed_properties { Self::enabled() } else { Self::disabled() }
    }

    /// What is known now, without any waiting. Where the list is due, it is read soon.
    pub(crate) fn get(&self, now: Timestamp) -> Option<Arc<ContactSchema>> {
        let shared = self.0.as_ref()?;
        let state = shared.state();
        if state.refresh_at <= now {
            shared.refresh_requested.notify_one();
        }
        let (cached, fetched_at) = state.cached.as_ref()?;
        (now.duration_since(*fetched_at) < MAX_STALE).then(|| Arc::clone(cached))
    }

    /// A row was refused for what is known: it may have changed a moment ago.
    pub(crate) fn invalidate(&self, now: Timestamp) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.state();
        if state.cached.is_some() {
            state.refresh_at = state.refresh_at.min(state.no_refresh_before);
        }
        if state.refresh_at <= now {
            shared.refresh_requested.notify_one();
        }
    }
}

impl CacheInner {
    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the list for the rows.
#[derive(Debug)]
pub struct SchemaRefresher<S, L, P> {
    /// The cache that gets the list.
    pub cache: SchemaCache,
    /// The Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The rate limiter of Loops: the list is read when it allows a call.
    pub limiter: Arc<P>,
    /// The time.
    pub clock: SharedClock,
}

impl<S: SecretSource<ClayToLoopsSecret>, L: LoopsClient, P: RateLimiter> SchemaRefresher<S, L, P> {
    /// Reads the list once, if it is due, and tells whether Loops was asked for it.
    pub async fn refresh_if_due(&self) -> bool {
        let Some(shared) = &self.cache.0 else { return false };
        if shared.state().refresh_at > self.clock.now() {
            return false;
        }
        let result = self.fetch().await;
        let requested = !matches!(result, FetchResult::NoApiKey);
        let now = self.clock.now();
        let mut state = shared.state();
        let interval = match result {
            FetchResult::Fetched(schema) => {
                state.cached = Some((Arc::new(schema), now));
                TTL
            }
            FetchResult::Unsupported => TTL,
            FetchResult::Failed | FetchResult::NoApiKey => MIN_REFRESH_INTERVAL,
        };
        let from_now = |time| now.saturating_add(time).unwrap_or(Timestamp::MAX);
        state.refresh_at = from_now(interval);
        state.no_refresh_before = from_now(MIN_REFRESH_INTERVAL);
        requested
    }

    /// Reads the list whenever a row finds it due, without end.
    pub async fn run(self) {
        let Some(shared) = self.cache.0.clone() else { return };
        loop {
            shared.refresh_requested.notified().await;
            self.refresh_if_due().await;
        }
    }

    async fn fetch(&self) -> FetchResult {
        // A placeholder is no key, and is not sent.
        let Some(api_key) = self.secrets.current().await.ok().and_then(|secret| secret.api_key.clone()) else {
            return FetchResult::NoApiKey;
        };
        // Rows go first: where there is no room, the list is read later.
        let Some(permit) = self.limiter.try_acquire().await else { return FetchResult::Failed };
        permit.wait().await;
        // What comes of it is not noted at the pace: rows may pass where the list cannot be had.
        let response = self.loops.list_contact_properties(&api_key, FETCH_TIMEOUT).await;
        if let Some(throttle) = response.throttle() {
            self.limiter.throttle_for(throttle).await;
            return FetchResult::Failed;
        }
        match response.outcome {
            CallOutcome::Responded(200) => match ContactSchema::parse(&response.body) {
                Some(schema) => {
                    debug!("the list of contact properties was read");
                    FetchResult::Fetched(schema)
                }
                None => FetchResult::Unsupported,
            },
            CallOutcome::Responded(status) if (400..500).contains(&status) && !matches!(status, 401 | 408 | 425) => {
                FetchResult::Unsupported
            }
            outcome => {
                warn!(?outcome, "the list of contact properties could not be read; rows pass as they are");
                FetchResult::Failed
            }
        }
    }
}

/// What came of asking for the list.
enum FetchResult {
    /// The list.
    Fetched(ContactSchema),
    /// The API answers, and has no such list.
    Unsupported,
    /// Nothing that says anything about the list.
    Failed,
    /// There is no key to ask with.
    NoApiKey,
}
