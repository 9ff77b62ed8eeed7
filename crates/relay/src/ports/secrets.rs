//! The port to the secrets, and what they hold.

use std::future::Future;
use std::sync::Arc;

use relay_core::secret::{RelayTokens, SecretString};
use relay_core::webhook::route::ClayRoute;
use relay_core::webhook::signature::SigningSecret;

/// The secret of the direction from Loops to Clay.
#[derive(Debug, Clone, Default)]
pub struct LoopsToClaySecret {
    /// The secrets that Loops may sign with. Empty means closed.
    pub signing_secrets: Vec<SigningSecret>,
    /// Where events go.
    pub routes: Vec<ClayRoute>,
}

/// The secret of the direction from Clay to Loops.
#[derive(Debug, Clone, Default)]
pub struct ClayToLoopsSecret {
    /// The key of the Loops account, if one is set.
    pub api_key: Option<SecretString>,
    /// The tokens that open the two API routes. Empty means closed.
    pub tokens: RelayTokens,
}

/// A secret cannot be read now; it may be readable later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret cannot be read")]
pub struct SecretError;

/// Where a secret comes from.
pub trait SecretSource<T>: Send + Sync {
    /// The secret as it is known, read at most a few minutes ago.
    fn current(&self) -> impl Future<Output = Result<Arc<T>, SecretError>> + Send;

    /// The secret read again, because what is known does not work. A source may decline to read more often than
    /// every half minute and give what it knows.
    fn refresh(&self) -> impl Future<Output = Result<Arc<T>, SecretError>> + Send;

    /// What a person has to mend when a part of the secret is wrong: `field` is its name in the secret's document.
    fn describe_field(&self, field: SecretField) -> String;
}

/// The parts of the secrets that messages name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretField {
    /// `loops_signing_secrets`
    SigningSecrets,
    /// `clay_routes`
    ClayRoutes,
    /// `loops_api_key`
    LoopsApiKey,
    /// `relay_tokens`
    RelayTokens,
}
