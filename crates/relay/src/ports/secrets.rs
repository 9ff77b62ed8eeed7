//! The port to the secrets, and what they hold.

use std::future::Future;
use std::sync::Arc;

use relay_core::account::{AccountId, KeyAccount};
use relay_core::secret::SecretString;
use relay_core::token::RelayTokens;
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::signature::SigningSecret;

/// The secret of the direction from Loops to Clay.
#[derive(Debug, Clone, Default)]
pub struct LoopsToClaySecret {
    /// The secrets that Loops may sign with. Empty means closed.
    pub signing_secrets: Vec<SigningSecret>,
    /// Where events go.
    pub routes: Vec<ClayRoute>,
    /// The account that the routes' webhooks are of: the first one, or the simulated one.
    pub account: AccountId,
}

impl LoopsToClaySecret {
    /// The routes that select this event.
    pub(crate) fn routes_for(&self, event: &str) -> impl Iterator<Item = &ClayRoute> {
        self.routes.iter().filter(move |route| route.events.selects(event))
    }

    /// The webhooks of the route with this name.
    pub(crate) fn pool(&self, route: &str) -> &[ClayWebhook] {
        self.routes.iter().find(|known| known.name == route).map_or(&[], |route| &route.webhooks)
    }
}

/// The secret of the direction from Clay to Loops.
#[derive(Debug, Clone, Default)]
pub struct ClayToLoopsSecret {
    /// The key of the Loops account, if one is set.
    pub api_key: Option<SecretString>,
    /// The tokens that open the routes below `/api/v1`. Empty means closed.
    pub tokens: RelayTokens,
    /// The account that the key opens.
    pub account: KeyAccount,
}

/// A secret cannot be read now; it may be readable later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret cannot be read")]
pub struct SecretError;

/// Where a secret comes from.
pub trait SecretSource<T>: Send + Sync {
    /// Returns the secret as it was read a few minutes ago at most.
    fn current(&self) -> impl Future<Output = Result<Arc<T>, SecretError>> + Send;

    /// Reads the secret again, because the known one does not work. A source may decline to read more often than every half
    /// minute, and return the known one.
    fn refresh(&self) -> impl Future<Output = Result<Arc<T>, SecretError>> + Send;

    /// Where an operator finds a field of the secret that is wrong.
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
