//! Cache of a secret in Secrets Manager: a call per request would cost more than everything else together.
//!
//! - The secret is read once per TTL, give or take a tenth, so that sandboxes do not read at the same time.
//! - Concurrent requests share one read.
//! - If Secrets Manager cannot be reached, the cached secret serves on, for an hour at most.
//! - If the document that was read is unusable, or the secret is gone, nothing serves on: whoever revoked a token has to rely on
//!   it. The secret counts as unreadable until it is corrected.
//! - If the cached secret does not work, it is read again. HTTP functions do so at most every half minute, because forged
//!   requests must not cost calls. A worker, whose deliveries are verified, does so at most once a second.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use relay::config::secret_document::DocumentError;
use relay::ports::clock::SharedClock;
use relay::ports::secrets::{SecretError, SecretField, SecretSource};
use relay::telemetry::event::{DeliveryEvent, EventOutcome, Stage};
use relay_core::delivery::Direction;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::sdk::error::{AwsCall, AwsError, AwsErrorKind};

/// Shortest time between two refreshes of an HTTP function.
pub const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest time between two refreshes of a worker. An earlier refresh waits and does not return a secret that was read before
/// it began: a delivery whose secret an operator has just corrected must not be held once more.
const WORKER_MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Time after a failed read until the next, if the failure need not be waited out by each request.
const FAILURE_RETRY: Duration = Duration::from_secs(30);
/// Longest time for which a secret serves on after it should have been read again. A value that was revoked is valid for no
/// longer than this while Secrets Manager is down.
const MAX_STALE: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretUser {
    HttpFunction,
    Worker,
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// Secrets Manager did not respond, or refuses the call: what the secret holds now is not known.
    #[error("it cannot be read ({0})")]
    Unreachable(String),
    /// There is no such secret any more.
    #[error("it is gone ({0})")]
    Gone(String),
    /// Its document has another form.
    #[error("it cannot be used ({0})")]
    Unusable(DocumentError),
}

pub(crate) struct CachedSecret<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    client: Client,
    arn: String,
    direction: Direction,
    parse: fn(&str) -> Result<T, DocumentError>,
    user: SecretUser,
    ttl: Duration,
    clock: SharedClock,
    cache: Mutex<Cache<T>>,
}

struct Cache<T> {
    secret: Option<Arc<T>>,
    read_started_at: Option<Instant>,
    /// Until when the secret, or that there is none, is not asked again.
    fresh_until: Instant,
    /// Until when the secret may serve on.
    usable_until: Instant,
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
        direction: Direction,
        parse: fn(&str) -> Result<T, DocumentError>,
        user: SecretUser,
        ttl: Duration,
        clock: SharedClock,
    ) -> Self {
        let now = Instant::now();
        let cache =
            Cache { secret: None, read_started_at: None, fresh_until: now, usable_until: now, next_refresh_at: now };
        let cache = Mutex::new(cache);
        Self { shared: Arc::new(Shared { client, arn, direction, parse, user, ttl, clock, cache }) }
    }

    async fn update_cache(&self, cache: &mut Cache<T>) -> Result<Arc<T>, SecretError> {
        let now = Instant::now();
        cache.read_started_at = Some(now);
        match self.fetch().await {
            Ok(secret) => {
                cache.secret = Some(Arc::new(secret));
                cache.fresh_until = now + self.shared.ttl.mul_f64(0.9 + 0.2 * self.shared.clock.random());
                cache.usable_until = cache.fresh_until + MAX_STALE;
            }
            Err(error) => {
                let is_unreachable = matches!(error, ReadError::Unreachable(_));
                if !is_unreachable || now >= cache.usable_until {
                    cache.secret = None;
                }
                let is_retried_at_once = is_unreachable && cache.secret.is_none();
                cache.fresh_until = if is_retried_at_once { now } else { now + FAILURE_RETRY };
                self.report(&error, cache.secret.is_some());
            }
        }
        cache.secret.clone().ok_or(SecretError)
    }

    async fn fetch(&self) -> Result<T, ReadError> {
        let Shared { client, arn, parse, .. } = &*self.shared;
        let response = client.get_secret_value().secret_id(arn).send().await.map_err(|error| {
            let call = AwsCall::new("secretsmanager:GetSecretValue", arn, client.config().region());
            let AwsError { kind, description, .. } = call.to_error(&error);
            match kind {
                AwsErrorKind::NotFound | AwsErrorKind::DeletedSecret => ReadError::Gone(description),
                _ => ReadError::Unreachable(description),
            }
        })?;
        parse(&response.secret_string.unwrap_or_default()).map_err(ReadError::Unusable)
    }

    /// Emits the event of a failed read, which the stack's alarm counts.
    fn report(&self, error: &ReadError, serves_on: bool) {
        let consequence =
            if serves_on { "as it was known, it serves on for an hour at most" } else { "what it opens is closed" };
        let error = format!("the secret {}: {error}; {consequence}", self.name());
        let stage = match self.shared.user {
            SecretUser::HttpFunction => Stage::Request,
            SecretUser::Worker => Stage::Worker,
        };
        let event = DeliveryEvent::new(self.shared.direction, stage, EventOutcome::SecretUnreadable, "");
        DeliveryEvent { error: Some(&error), ..event }.emit();
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
        if Instant::now() < cache.fresh_until {
            return cache.secret.clone().ok_or(SecretError);
        }
        self.update_cache(&mut cache).await
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
                None if now < cache.fresh_until => return Err(SecretError),
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

#[cfg(test)]
mod tests;
