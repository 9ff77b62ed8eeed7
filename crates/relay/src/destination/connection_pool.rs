//! The pool of open connections, and when they are discarded.
//!
//! A process may be frozen between two requests, or its machine may sleep, without any sign of it. Its connections may be dead
//! afterwards: closed, reset, or dropped by a device in between that then sends nothing. The monotonic clock may have stopped as
//! well (Linux' `CLOCK_MONOTONIC` does while a machine sleeps), so the pool reads the time of day, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an idle connection stays open.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(25);
/// How long sent bytes may stay unacknowledged by TCP. A peer that has dropped the connection acknowledges nothing, which
/// shows long before the response is late. As a rule the request has not arrived then. If only the acknowledgements were
/// lost, it has, and is sent twice, as after any lost response.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest body, in bytes, that is sent on a pooled connection. Every receive buffer holds that much. Part of a larger
/// body waits in the send buffer while the destination reads slowly. TCP counts that part as unacknowledged, although the
/// connection is alive.
const MAX_POOLED_BODY: usize = 16 * 1024;
/// A request that is aborted sooner says nothing about its connection.
const MIN_ELAPSED_TO_BLAME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct ConnectionPool {
    tls: rustls::ClientConfig,
    pooled: Mutex<PooledClient>,
    /// Opens a new connection for each request.
    unpooled: reqwest::Client,
}

#[derive(Debug)]
struct PooledClient {
    client: reqwest::Client,
    generation: u64,
    used_at: SystemTime,
}

impl ConnectionPool {
    pub(crate) fn new(tls: rustls::ClientConfig) -> reqwest::Result<Self> {
        let pooled = PooledClient { client: build_pooled_client(&tls)?, generation: 0, used_at: SystemTime::now() };
        let unpooled = client_builder(&tls).pool_max_idle_per_host(0).build()?;
        Ok(Self { tls, pooled: Mutex::new(pooled), unpooled })
    }

    /// Returns the client for a request whose body is too large for a pooled connection.
    pub(crate) fn unpooled_for_large_body(&self, request: &reqwest::Request) -> Option<&reqwest::Client> {
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        (body.len() > MAX_POOLED_BODY).then_some(&self.unpooled)
    }

    /// Returns the client with the current generation of pooled connections.
    pub(crate) fn current(&self, now: SystemTime) -> (reqwest::Client, u64) {
        let mut pooled = self.lock();
        if now.duration_since(pooled.used_at).is_ok_and(|idle| idle > IDLE_TIMEOUT) {
            self.rebuild(&mut pooled);
        }
        pooled.used_at = now;
        (pooled.client.clone(), pooled.generation)
    }

    /// Discards the connections of a generation: what one has died of may have killed the others as well. Requests in flight
    /// on them go on.
    fn discard_generation(&self, generation: u64) {
        let mut pooled = self.lock();
        if pooled.generation == generation {
            self.rebuild(&mut pooled);
        }
    }

    fn rebuild(&self, pooled: &mut PooledClient) {
        match build_pooled_client(&self.tls) {
            Ok(client) => {
                pooled.client = client;
                pooled.generation += 1;
            }
            Err(error) => warn!(%error, "connections that may be dead could not be given up"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PooledClient> {
        self.pooled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that builds it")]
fn client_builder(tls: &rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("loops-clay-relay/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Only the settings name the destinations, no environment variable that is meant for another program.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .connector_layer(tower::util::MapRequestLayer::new(|target| {
            // Outside the scope of such a request nothing is recorded.
            let _ = OPENED_NEW.try_with(|opened| opened.store(true, Ordering::Relaxed));
            target
        }))
}

fn build_pooled_client(tls: &rustls::ClientConfig) -> reqwest::Result<reqwest::Client> {
    let client = client_builder(tls).pool_idle_timeout(IDLE_TIMEOUT);
    #[cfg(target_os = "linux")]
    let client = client.tcp_user_timeout(TCP_USER_TIMEOUT);
    client.build()
}

/// Discards the pooled connections if its request gets no response on one of them.
pub(crate) struct RequestGuard<'a> {
    pool: &'a ConnectionPool,
    generation: u64,
    opened: Arc<AtomicBool>,
    started_at: Instant,
    finished: bool,
}

impl<'a> RequestGuard<'a> {
    /// Starts the guard of a request. `opened` says whether the request has opened a connection.
    pub(crate) fn start(pool: &'a ConnectionPool, generation: u64, opened: Arc<AtomicBool>) -> Self {
        Self { pool, generation, opened, started_at: Instant::now(), finished: false }
    }

    pub(crate) fn responded(mut self) {
        self.finished = true;
    }

    /// Ends the guard of a failed request. Returns whether it used a pooled connection.
    pub(crate) fn failed(mut self) -> bool {
        self.finished = true;
        let was_reused = !self.opened.load(Ordering::Relaxed);
        if was_reused {
            self.pool.discard_generation(self.generation);
        }
        was_reused
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        // The request was aborted.
        if !self.finished && !self.opened.load(Ordering::Relaxed) && self.started_at.elapsed() >= MIN_ELAPSED_TO_BLAME {
            self.pool.discard_generation(self.generation);
        }
    }
}

tokio::task_local! {
    /// Whether the request that this task sends has opened a connection.
    pub(crate) static OPENED_NEW: Arc<AtomicBool>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_pool() -> ConnectionPool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        ConnectionPool::new(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()).unwrap()
    }

    fn in_seconds(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn connections_in_use_stay_pooled() {
        let pool = new_pool();
        let (_, generation) = pool.current(in_seconds(0));
        for seconds in [20, 40, 60] {
            assert_eq!(pool.current(in_seconds(seconds)).1, generation);
        }
    }

    #[test]
    fn suspended_machine_gets_a_fresh_pool() {
        let pool = new_pool();
        let (_, generation) = pool.current(in_seconds(0));
        assert_ne!(pool.current(in_seconds(600)).1, generation);
    }

    #[test]
    fn clock_moved_back_keeps_connections_and_resets_idle_time() {
        let pool = new_pool();
        let (_, generation) = pool.current(in_seconds(600));
        assert_eq!(pool.current(in_seconds(0)).1, generation);
        assert_ne!(pool.current(in_seconds(60)).1, generation);
    }

    #[test]
    fn concurrent_failures_discard_the_pool_once() {
        let pool = new_pool();
        let (_, generation) = pool.current(in_seconds(0));
        let failed = || RequestGuard::start(&pool, generation, Arc::default()).failed();
        assert!([failed(), failed(), failed()].into_iter().all(|reused| reused));
        assert_eq!(pool.current(in_seconds(0)).1, generation + 1);
    }

    #[test]
    fn failure_on_new_connection_keeps_the_pool() {
        let pool = new_pool();
        let (_, generation) = pool.current(in_seconds(0));
        let opened = Arc::new(AtomicBool::new(true));
        assert!(!RequestGuard::start(&pool, generation, opened).failed());
        assert_eq!(pool.current(in_seconds(0)).1, generation);
    }

    #[tokio::test(start_paused = true)]
    async fn request_dropped_after_a_second_discards_the_pool() {
        let pool = new_pool();
        let (_, generation) = pool.current(in_seconds(0));
        drop(RequestGuard::start(&pool, generation, Arc::default()));
        assert_eq!(pool.current(in_seconds(0)).1, generation);
        let guard = RequestGuard::start(&pool, generation, Arc::default());
        tokio::time::advance(MIN_ELAPSED_TO_BLAME).await;
        drop(guard);
        assert_eq!(pool.current(in_seconds(0)).1, generation + 1);
    }
}
