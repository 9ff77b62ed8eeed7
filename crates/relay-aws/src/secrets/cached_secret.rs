//! Cache of a secret in Secrets Manager: a call per request would cost more than everything else together.
//!
//! - The secret is read once per TTL, give or take a tenth, so that sandboxes do not read at the same time.
//! - Concurrent requests share one read.
//! - If a read fails, the cached secret is used on.
//! - If the cached secret does not work, it is read again. HTTP functions do so at most every half minute, because forged
//!   requests must not cost calls. A worker, whose deliveries are verified, does so at most once a second.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use relay::config::secret_document::DocumentError;
use relay::ports::clock::SharedClock;
use relay::ports::secrets::{SecretError, SecretField, SecretSource};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::sdk::error::describe;

/// Shortest time between two refreshes of an HTTP function.
pub const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest time between two refreshes of a worker. An earlier refresh waits and does not return a secret that was read before
/// it began: a delivery whose secret an operator has just corrected must not be held once more.
const WORKER_MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
const STALE_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretUser {
    HttpFunction,
    Worker,
}

pub(crate) struct CachedSecret<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    client: Client,
    arn: String,
    parse: fn(&str) -> Result<T, DocumentError>,
    user: SecretUser,
    ttl: Duration,
    clock: SharedClock,
    cache: Mutex<Cache<T>>,
}

struct Cache<T> {
    secret: Option<Arc<T>>,
    read_started_at: Option<Instant>,
    fresh_until: Instant,
    next_refresh_at: Instant,
}

impl<T> Clone for CachedSecret<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> std::fmt::Debug for CachedSecret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedSecret").field("arn", &self.shared.arn).finish_non_exhaustive()
    }
}

impl<T> CachedSecret<T> {
    pub(crate) fn new(
        client: Client,
        arn: String,
        parse: fn(&str) -> Result<T, DocumentError>,
        user: SecretUser,
        ttl: Duration,
        clock: SharedClock,
    ) -> Self {
        let now = Instant::now();
        let cache = Mutex::new(Cache { secret: None, read_started_at: None, fresh_until: now, next_refresh_at: now });
        Self { shared: Arc::new(Shared { client, arn, parse, user, ttl, clock, cache }) }
    }

    async fn update_cache(&self, cache: &mut Cache<T>) -> Result<Arc<T>, SecretError> {
        let now = Instant::now();
        cache.read_started_at = Some(now);
        match self.fetch().await {
            Some(secret) => {
                let secret = Arc::new(secret);
                cache.secret = Some(Arc::clone(&secret));
                cache.fresh_until = now + self.shared.ttl.mul_f64(0.9 + 0.2 * self.shared.clock.random());
                Ok(secret)
            }
            None => match &cache.secret {
                Some(cached) => {
                    warn!(secret = self.name(), "the secret as it was known serves on");
                    cache.fresh_until = now + STALE_RETRY;
                    Ok(Arc::clone(cached))
                }
                None => Err(SecretError),
            },
        }
    }

    async fn fetch(&self) -> Option<T> {
        let response = self.shared.client.get_secret_value().secret_id(&self.shared.arn).send().await;
        let document = match response {
            Ok(response) => response.secret_string.unwrap_or_default(),
            Err(error) => {
                error!(secret = self.name(), error = describe(&error), "the secret cannot be read");
                return None;
            }
        };
        match (self.shared.parse)(&document) {
            Ok(secret) => Some(secret),
            Err(error) => {
                error!(secret = self.name(), %error, "the secret cannot be used");
                None
            }
        }
    }

    /// Returns the secret's name: the ARN's without the six characters that AWS adds.
    fn name(&self) -> &str {
        let arn = &self.shared.arn;
        match arn.split_once(":secret:") {
            Some((_, name)) => name.rsplit_once('-').map_or(name, |(name, _)| name),
            None => arn,
        }
    }
}

impl<T: Send + Sync + 'static> SecretSource<T> for CachedSecret<T> {
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        let mut cache = self.shared.cache.lock().await;
        match &cache.secret {
            Some(cached) if Instant::now() < cache.fresh_until => Ok(Arc::clone(cached)),
            _ => self.update_cache(&mut cache).await,
        }
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        let requested_at = Instant::now();
        loop {
            let mut cache = self.shared.cache.lock().await;
            let now = Instant::now();
            let is_worker = self.shared.user == SecretUser::Worker;
            let interval = if is_worker { WORKER_MIN_REFRESH_INTERVAL } else { MIN_REFRESH_INTERVAL };
            let wait_until = match &cache.secret {
                // Another request has read it since.
                Some(cached) if cache.read_started_at.is_some_and(|started_at| started_at >= requested_at) => {
                    return Ok(Arc::clone(cached));
                }
                Some(cached) if now < cache.next_refresh_at && !is_worker => return Ok(Arc::clone(cached)),
                Some(_) if now < cache.next_refresh_at => cache.next_refresh_at,
                _ => {
                    cache.next_refresh_at = now + interval;
                    return self.update_cache(&mut cache).await;
                }
            };
            drop(cache);
            tokio::time::sleep_until(wait_until).await;
        }
    }

    fn describe_field(&self, field: SecretField) -> String {
        let field = match field {
            SecretField::SigningSecrets => "loops_signing_secrets",
            SecretField::ClayRoutes => "clay_routes",
            SecretField::LoopsApiKey => "loops_api_key",
            SecretField::RelayTokens => "relay_tokens",
        };
        format!("{field} of the secret {}", self.name())
    }
}
