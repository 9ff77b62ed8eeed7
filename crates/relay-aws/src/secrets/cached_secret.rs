//! A secret in Secrets Manager, read seldom: a call a request would cost more than everything else together.
//!
//! - It is read once for its lifetime (give or take a tenth, so that sandboxes do not read in step).
//! - Whoever comes while it is being read waits for that reading.
//! - Where it cannot be read, what is known serves on.
//! - Where what is known does not work, it is read again: by the front door at most every half minute, because forged requests
//!   must not buy calls; by a worker, whose deliveries are real, always, each second once for all that wait for it.
//! - A version that was not known before is told to who knows what waits for it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use relay::config::secret_document::DocumentError;
use relay::ports::clock::Clock;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretError, SecretField, SecretSource};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::sdk::error::describe;
use crate::secrets::rotation::{RotationSlot, SecretRotation, Unblocks};

/// How often the front door reads the secret again because it does not work.
pub const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// How often a worker does. Who asks earlier waits, and does not get what was read before it asked: a delivery that a person
/// has mended the secret for must not be held once more with the old one.
const WORKER_MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// How long what is known serves when it could not be read, before that is tried again.
const STALE_RETRY: Duration = Duration::from_secs(30);

/// A secret document.
pub trait SecretDocument: Unblocks + Sized + Send + Sync + 'static {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be used.
    fn read_document(json: &str) -> Result<Self, DocumentError>;
}

impl SecretDocument for LoopsToClaySecret {
    fn read_document(json: &str) -> Result<Self, DocumentError> {
        Self::read(json)
    }
}

impl SecretDocument for ClayToLoopsSecret {
    fn read_document(json: &str) -> Result<Self, DocumentError> {
        Self::read(json)
    }
}

/// A secret in Secrets Manager.
pub struct CachedSecret<T, A> {
    shared: Arc<Shared<T, A>>,
}

struct Shared<T, A> {
    client: Client,
    arn: String,
    lifetime: Duration,
    ambient: A,
    /// Whether it is a worker's.
    worker: bool,
    mended: RotationSlot,
    cache: Mutex<Cache<T>>,
}

struct Cache<T> {
    known: Option<Arc<T>>,
    version: Option<String>,
    /// When the last reading began.
    read_at: Option<Instant>,
    fresh_until: Instant,
    may_reread_at: Instant,
}

impl<T, A> Clone for CachedSecret<T, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T, A> std::fmt::Debug for CachedSecret<T, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedSecret").field("arn", &self.shared.arn).finish_non_exhaustive()
    }
}

impl<T: SecretDocument, A: Clock> CachedSecret<T, A> {
    /// The secret of this ARN for the front door, to be read at most once in a `lifetime`.
    pub fn new(client: Client, arn: String, lifetime: Duration, ambient: A) -> Self {
        Self::of(client, arn, lifetime, ambient, false)
    }

    /// The same for a worker.
    pub fn for_worker(client: Client, arn: String, lifetime: Duration, ambient: A) -> Self {
        Self::of(client, arn, lifetime, ambient, true)
    }

    fn of(client: Client, arn: String, lifetime: Duration, ambient: A, worker: bool) -> Self {
        let now = Instant::now();
        let cache =
            Mutex::new(Cache { known: None, version: None, read_at: None, fresh_until: now, may_reread_at: now });
        let mended = RotationSlot::default();
        Self { shared: Arc::new(Shared { client, arn, lifetime, ambient, worker, mended, cache }) }
    }

    /// What tells of versions that were not known before.
    #[must_use]
    pub fn rotations(&self) -> RotationSlot {
        self.shared.mended.clone()
    }

    async fn refresh(&self, cache: &mut Cache<T>) -> Result<Arc<T>, SecretError> {
        let now = Instant::now();
        cache.read_at = Some(now);
        match self.fetch().await {
            Some((secret, version)) => {
                let secret = Arc::new(secret);
                if version != cache.version {
                    if let Some(version) = version.clone() {
                        let (direction, places) = (T::DIRECTION, secret.held_keys());
                        self.shared.mended.put(SecretRotation { direction, version, places });
                    }
                    cache.version = version;
                }
                cache.known = Some(Arc::clone(&secret));
                cache.fresh_until = now + self.shared.lifetime.mul_f64(0.9 + 0.2 * self.shared.ambient.random());
                Ok(secret)
            }
            None => match &cache.known {
                Some(known) => {
                    warn!(secret = self.name(), "the secret as it was known serves on");
                    cache.fresh_until = now + STALE_RETRY;
                    Ok(Arc::clone(known))
                }
                None => Err(SecretError),
            },
        }
    }

    /// The secret, and the id of its version.
    async fn fetch(&self) -> Option<(T, Option<String>)> {
        let read = self.shared.client.get_secret_value().secret_id(&self.shared.arn).send().await;
        let (document, version) = match read {
            Ok(read) => (read.secret_string.unwrap_or_default(), read.version_id),
            Err(error) => {
                error!(secret = self.name(), error = describe(&error), "the secret cannot be read");
                return None;
            }
        };
        match T::read_document(&document) {
            Ok(secret) => Some((secret, version)),
            Err(error) => {
                error!(secret = self.name(), %error, "the secret cannot be used");
                None
            }
        }
    }

    /// The name under which a person finds the secret: the ARN's, without the six characters that AWS adds.
    fn name(&self) -> &str {
        let arn = &self.shared.arn;
        match arn.split_once(":secret:") {
            Some((_, name)) => name.rsplit_once('-').map_or(name, |(name, _)| name),
            None => arn,
        }
    }
}

impl<T: SecretDocument, A: Clock> SecretSource<T> for CachedSecret<T, A> {
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        let mut cache = self.shared.cache.lock().await;
        match &cache.known {
            Some(known) if Instant::now() < cache.fresh_until => Ok(Arc::clone(known)),
            _ => self.refresh(&mut cache).await,
        }
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        let asked_at = Instant::now();
        loop {
            let mut cache = self.shared.cache.lock().await;
            let now = Instant::now();
            let every = if self.shared.worker { WORKER_MIN_REFRESH_INTERVAL } else { MIN_REFRESH_INTERVAL };
            let may_at = match &cache.known {
                // Somebody has read it since.
                Some(known) if cache.read_at.is_some_and(|read_at| read_at >= asked_at) => {
                    return Ok(Arc::clone(known));
                }
                Some(known) if now < cache.may_reread_at && !self.shared.worker => return Ok(Arc::clone(known)),
                Some(_) if now < cache.may_reread_at => cache.may_reread_at,
                _ => {
                    cache.may_reread_at = now + every;
                    return self.refresh(&mut cache).await;
                }
            };
            drop(cache);
            tokio::time::sleep_until(may_at).await;
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
