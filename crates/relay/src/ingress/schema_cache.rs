//! The contact properties of the Loops account, cached for rows.
//!
//! A row never waits for the list of properties. It uses the cached one, and requests a refresh if that is due; a background
//! task reads the list then, once a quarter of an hour. As long as there is no list, rows pass as they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_core::policy::response::CallOutcome;
use relay_core::row::schema::ContactSchema;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::destination::loops::{LoopsClient, PROPERTIES_PATH};
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::RateLimiter;
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};

/// Age at which the list is read again.
const TTL: SignedDuration = SignedDuration::from_mins(15);
/// Age up to which the list is used while it cannot be read again.
const MAX_STALE: SignedDuration = SignedDuration::from_hours(1);
/// Shortest time between two reads. After it a failed read is repeated, and a row that the list rejects makes the list due:
/// an operator may just have created the property.
const MIN_REFRESH_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The cached list. Clones share it.
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
    refresh_at: Timestamp,
    /// Lower limit of `refresh_at`, even if a row is rejected.
    no_refresh_before: Timestamp,
}

impl SchemaCache {
    /// An empty cache. Without `typed_properties` it stays empty.
    pub fn new(typed_properties: bool) -> Self {
        let never_read = Timestamp::MIN;
        let state = CacheState { cached: None, refresh_at: never_read, no_refresh_before: never_read };
        let inner = CacheInner { state: Mutex::new(state), refresh_requested: Notify::new() };
        Self(typed_properties.then(|| Arc::new(inner)))
    }

    /// Returns the list if it is known, and requests a refresh if that is due.
    pub(crate) fn get(&self, now: Timestamp) -> Option<Arc<ContactSchema>> {
        let shared = self.0.as_ref()?;
        let state = shared.state();
        if state.refresh_at <= now {
            shared.refresh_requested.notify_one();
        }
        let (cached, fetched_at) = state.cached.as_ref()?;
        (now.duration_since(*fetched_at) < MAX_STALE).then(|| Arc::clone(cached))
    }

    /// Makes a refresh due after the list has rejected a row: the account may have changed a moment ago.
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

/// Reads the list into the cache.
#[derive(Debug)]
pub struct SchemaRefresher<S, L, P> {
    /// The cache of the handler.
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
    /// Reads the list once, if it is due. Returns false if nothing was to be read, or no key is set.
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

    /// Reads the list whenever a row requests it. Never returns while the cache is enabled.
    pub async fn run(self) {
        let Some(shared) = self.cache.0.clone() else { return };
        loop {
            shared.refresh_requested.notified().await;
            self.refresh_if_due().await;
        }
    }

    async fn fetch(&self) -> FetchResult {
        let Some(api_key) = self.secrets.current().await.ok().and_then(|secret| secret.api_key.clone()) else {
            return FetchResult::NoApiKey;
        };
        // Rows go first: without a permit, the list is read later.
        let Some(permit) = self.limiter.try_acquire().await else { return FetchResult::Failed };
        permit.wait().await;
        // The limiter does not record the response: Loops may take rows although it does not give the list.
        let response = self.loops.read(PROPERTIES_PATH, &api_key, FETCH_TIMEOUT).await;
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

enum FetchResult {
    Fetched(ContactSchema),
    /// The API has no such list.
    Unsupported,
    Failed,
    NoApiKey,
}
