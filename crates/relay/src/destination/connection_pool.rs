//! The connections that are kept between requests, and when they are not trusted any more.
//!
//! A process is frozen between two requests, or its machine sleeps, and nobody tells it. Its connections may have died
//! meanwhile: closed, reset, or forgotten by something in between, which then answers nothing at all. The clock of timers may
//! have stood still as well (Linux' `CLOCK_MONOTONIC` does while a machine sleeps), so the time of day is asked, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

/// The longest time that opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection that nobody uses is kept.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(25);
/// How long what was sent may stay unconfirmed by the other side's TCP. Whoever has forgotten a connection confirms nothing;
/// that shows long before an answer would be missed. As a rule nothing has arrived then; where only the confirmations were
/// lost, it has, and is sent twice, as after any answer that got lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest body, in bytes, that goes into a connection that is kept. Any end has room for so much that it has not read
/// yet. Of more, a part waits on this side while the end is slow in reading; TCP counts that as unconfirmed, and nothing was
/// forgotten.
const MAX_POOLED_BODY: usize = 16 * 1024;
/// A request that is given up sooner says nothing of its connection.
const MIN_ELAPSED_TO_BLAME: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Debug)]
pub(crate) struct ConnectionPool {
    tls: rustls::ClientConfig,
    kept: Mutex<PooledClient>,
    /// Keeps none: what it sends goes out on a new one, which nobody has forgotten.
    fresh: reqwest::Client,
}

#[derive(Debug)]
struct PooledClient {
    client: reqwest::Client,
    generation: u64,
    used_at: SystemTime,
}

impl ConnectionPool {
    /// None yet.
    pub(crate) fn new(tls: rustls::ClientConfig) -> reqwest::Result<Self> {
        let kept = PooledClient { client: build_keeping(&tls)?, generation: 0, used_at: SystemTime::now() };
        let fresh = build(&tls).pool_max_idle_per_host(0).build()?;
        Ok(Self { tls, kept: Mutex::new(kept), fresh })
    }

    /// The client for a request whose body is too large for a connection that was kept; nothing where it is not.
    pub(crate) fn unpooled_for_large_body(&self, request: &reqwest::Request) -> Option<&reqwest::Client> {
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        (body.len() > MAX_POOLED_BODY).then_some(&self.fresh)
    }

    /// The client with those that are trusted now, and which generation they are of.
    pub(crate) fn current(&self, now: SystemTime) -> (reqwest::Client, u64) {
        let mut kept = self.lock();
        if now.duration_since(kept.used_at).is_ok_and(|idle| idle > IDLE_TIMEOUT) {
            self.rebuild(&mut kept);
        }
        kept.used_at = now;
        (kept.client.clone(), kept.generation)
    }

    /// Trusts none of a generation any more: what one has died of, the others may have died of as well. What is under way on
    /// them goes on.
    fn discard_generation(&self, generation: u64) {
        let mut kept = self.lock();
        if kept.generation == generation {
            self.rebuild(&mut kept);
        }
    }

    fn rebuild(&self, kept: &mut PooledClient) {
        match build_keeping(&self.tls) {
            Ok(client) => {
                kept.client = client;
                kept.generation += 1;
            }
            Err(error) => warn!(%error, "connections that may be dead could not be given up"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PooledClient> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that builds it")]
fn build(tls: &rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("loops-clay-relay/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The far ends are named by the settings alone, not by a variable that some other program needs.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .connector_layer(ConnectObserverLayer)
}

fn build_keeping(tls: &rustls::ClientConfig) -> reqwest::Result<reqwest::Client> {
    let client = build(tls).pool_idle_timeout(IDLE_TIMEOUT);
    #[cfg(target_os = "linux")]
    let client = client.tcp_user_timeout(TCP_USER_TIMEOUT);
    client.build()
}

/// Watches over one request, and distrusts the connections that were kept where it came to no answer on one of them.
pub(crate) struct RequestGuard<'a> {
    connections: &'a ConnectionPool,
    generation: u64,
    opened: Arc<AtomicBool>,
    begun: Instant,
    over: bool,
}

impl<'a> RequestGuard<'a> {
    /// Over a request on connections of a generation; `opened` tells whether it opened one.
    pub(crate) fn start(connections: &'a ConnectionPool, generation: u64, opened: Arc<AtomicBool>) -> Self {
        Self { connections, generation, opened, begun: Instant::now(), over: false }
    }

    /// It was answered.
    pub(crate) fn answered(mut self) {
        self.over = true;
    }

    /// It failed; whether it did so on a connection that had been kept.
    pub(crate) fn failed(mut self) -> bool {
        self.over = true;
        let was_kept = !self.opened.load(Ordering::Relaxed);
        if was_kept {
            self.connections.discard_generation(self.generation);
        }
        was_kept
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        // Nobody waits for it any more.
        if !self.over && !self.opened.load(Ordering::Relaxed) && self.begun.elapsed() >= MIN_ELAPSED_TO_BLAME {
            self.connections.discard_generation(self.generation);
        }
    }
}

tokio::task_local! {
    /// Whether the request that this task is sending asked for a new connection.
    pub(crate) static OPENED_NEW: Arc<AtomicBool>;
}

/// Notes which requests open a connection, to tell one on a connection that was kept from one on a new one.
#[derive(Debug, Clone, Default)]
struct ConnectObserverLayer;

impl<S> tower_layer::Layer<S> for ConnectObserverLayer {
    type Service = ConnectObserver<S>;

    fn layer(&self, connector: S) -> ConnectObserver<S> {
        ConnectObserver { connector }
    }
}

/// A connector whose use is noted.
#[derive(Debug, Clone)]
struct ConnectObserver<S> {
    connector: S,
}

impl<S: tower_service::Service<T>, T> tower_service::Service<T> for ConnectObserver<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, target: T) -> S::Future {
        // Where there is no such task, nobody asks.
        let _ = OPENED_NEW.try_with(|opened| opened.store(true, Ordering::Relaxed));
        self.connector.call(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> ConnectionPool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        ConnectionPool::new(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()).unwrap()
    }

    fn later(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn connections_are_trusted_while_they_are_used() {
        let connections = connections();
        let (_, generation) = connections.current(later(0));
        for seconds in [20, 40, 60] {
            assert_eq!(connections.current(later(seconds)).1, generation);
        }
    }

    #[test]
    fn after_a_sleep_in_which_no_timer_went_on_no_connection_is_trusted() {
        let connections = connections();
        let (_, generation) = connections.current(later(0));
        assert_ne!(connections.current(later(600)).1, generation);
    }

    #[test]
    fn a_clock_that_goes_back_gives_up_nothing_and_is_counted_from() {
        let connections = connections();
        let (_, generation) = connections.current(later(600));
        assert_eq!(connections.current(later(0)).1, generation);
        assert_ne!(connections.current(later(60)).1, generation);
    }

    #[test]
    fn of_many_requests_that_fail_together_the_first_gives_up_the_connections_and_only_it() {
        let connections = connections();
        let (_, generation) = connections.current(later(0));
        let failed = || RequestGuard::start(&connections, generation, Arc::default()).failed();
        assert!([failed(), failed(), failed()].into_iter().all(|kept| kept));
        assert_eq!(connections.current(later(0)).1, generation + 1);
    }

    #[test]
    fn a_request_that_opened_a_connection_says_nothing_of_those_that_were_kept() {
        let connections = connections();
        let (_, generation) = connections.current(later(0));
        let opened = Arc::new(AtomicBool::new(true));
        assert!(!RequestGuard::start(&connections, generation, opened).failed());
        assert_eq!(connections.current(later(0)).1, generation);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_waited_for_in_vain_gives_up_the_connections_and_one_that_was_not_does_not() {
        let connections = connections();
        let (_, generation) = connections.current(later(0));
        drop(RequestGuard::start(&connections, generation, Arc::default()));
        assert_eq!(connections.current(later(0)).1, generation);
        let watch = RequestGuard::start(&connections, generation, Arc::default());
        tokio::time::advance(MIN_ELAPSED_TO_BLAME).await;
        drop(watch);
        assert_eq!(connections.current(later(0)).1, generation + 1);
    }
}
