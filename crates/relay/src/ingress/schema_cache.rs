//! What contacts of the Loops account look like, kept at hand for the rows.
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

use crate::destination::loops::LoopsApi;
use crate::ingress::sync_send::FULL_PAUSE;
use crate::ports::clock::Clock;
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};
use crate::rate_limit::limiter::RateLimiter;

/// How long a list is used before it is read again.
const TTL: SignedDuration = SignedDuration::from_mins(15);
/// How long it is used while it cannot be read again.
const MAX_STALE: SignedDuration = SignedDuration::from_hours(1);
/// How long nothing is read after the list was asked for, whatever came of it. From then on, a list that could not be had
/// is due, and a refused row is a reason to read one that is there: somebody may just have made the property.
const MIN_REFRESH_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// The longest that reading it may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The list as it is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SchemaCache(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug)]
struct State {
    known: Option<(Arc<ContactSchema>, Timestamp)>,
    /// From when on it is worth reading.
    due: Timestamp,
    /// Until when it is not read, whatever is doubted.
    not_before: Timestamp,
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
        let state = Mutex::new(State { known: None, due: Timestamp::MIN, not_before: Timestamp::MIN });
        Self(Some(Arc::new(Shared { state, wanted: Notify::new() })))
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
        if state.due <= now {
            shared.wanted.notify_one();
        }
        let (known, read_at) = state.known.as_ref()?;
        (now.duration_since(*read_at) < MAX_STALE).then(|| Arc::clone(known))
    }

    /// A row was refused for what is known: it may have changed a moment ago.
    pub(crate) fn invalidate(&self, now: Timestamp) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.state();
        if state.known.is_some() {
            state.due = state.due.min(state.not_before);
        }
        if state.due <= now {
            shared.wanted.notify_one();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the list for the rows.
#[derive(Debug)]
pub struct SchemaRefresher<S, L, P, A> {
    /// Where the list is kept.
    pub list: SchemaCache,
    /// The Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The pace of calls to Loops: the list is read where there is room.
    pub pace: P,
    /// The time.
    pub ambient: A,
}

impl<S, L, P, A> SchemaRefresher<S, L, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    P: RateLimiter,
    A: Clock,
{
    /// Reads the list once, if it is due, and tells whether Loops was asked for it.
    pub async fn refresh_if_due(&self) -> bool {
        let Some(shared) = &self.list.0 else { return false };
        if shared.state().due > self.ambient.now() {
            return false;
        }
        let read = self.fetch().await;
        let asked = !matches!(read, FetchResult::NoKey);
        let now = self.ambient.now();
        let mut state = shared.state();
        let next = match read {
            FetchResult::Listed(properties) => {
                state.known = Some((Arc::new(properties), now));
                TTL
            }
            FetchResult::NoList => TTL,
            FetchResult::Nothing | FetchResult::NoKey => MIN_REFRESH_INTERVAL,
        };
        let after = |time| now.saturating_add(time).unwrap_or(Timestamp::MAX);
        state.due = after(next);
        state.not_before = after(MIN_REFRESH_INTERVAL);
        asked
    }

    /// Reads the list whenever a row finds it due, without end.
    pub async fn keep(self) {
        let Some(shared) = self.list.0.clone() else { return };
        loop {
            shared.wanted.notified().await;
            self.refresh_if_due().await;
        }
    }

    async fn fetch(&self) -> FetchResult {
        // A placeholder is no key, and is not sent.
        let Some(api_key) = self.secrets.current().await.ok().and_then(|secret| secret.api_key.clone()) else {
            return FetchResult::NoKey;
        };
        // Rows go first: where there is no room, the list is read later.
        let Some(turn) = self.pace.try_acquire().await else { return FetchResult::Nothing };
        turn.wait().await;
        // What comes of it is not noted at the pace: rows may pass where the list cannot be had.
        let answer = self.loops.properties(&api_key, TIMEOUT).await;
        match answer.outcome {
            CallOutcome::Answered(200) => match ContactSchema::read(&answer.body) {
                Some(properties) => {
                    debug!("the list of contact properties was read");
                    FetchResult::Listed(properties)
                }
                None => FetchResult::NoList,
            },
            CallOutcome::Answered(429) => {
                self.pace.throttle_for(answer.retry_after.unwrap_or(FULL_PAUSE)).await;
                FetchResult::Nothing
            }
            CallOutcome::Answered(status) if (400..500).contains(&status) && !matches!(status, 401 | 408 | 425) => {
                FetchResult::NoList
            }
            outcome => {
                warn!(?outcome, "the list of contact properties could not be read; rows pass as they are");
                FetchResult::Nothing
            }
        }
    }
}

/// What came of asking for the list.
enum FetchResult {
    /// The list.
    Listed(ContactSchema),
    /// The API answers, and has no such list.
    NoList,
    /// Nothing that says anything about the list.
    Nothing,
    /// There is no key to ask with.
    NoKey,
}
