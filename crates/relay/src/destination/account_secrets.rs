//! The secret with the Loops key, and the account that the key opens: no key is used before that is known.
//!
//! Loops is asked once for each key that the store does not know. See docs/adr/0016-destination-accounts.md.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_core::account::{KeyAccount, ServedAccounts, TeamAnswer};
use relay_core::delivery::{Direction, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tracing::{error, info, warn};

use crate::destination::http_client::DestinationResponse;
use crate::destination::loops::{API_KEY_PATH, LoopsClient};
use crate::ports::accounts::{AccountLedger, load_accounts, update_accounts};
use crate::ports::clock::SharedClock;
use crate::ports::queue::StoreError;
use crate::ports::rate_limiter::RateLimiter;
use crate::ports::secrets::{ClayToLoopsSecret, SecretError, SecretField, SecretSource};

/// Timeout of the question: a caller's row waits for the answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time until Loops is asked again about a key that must not be used before it has answered.
const DOUBT_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// Time until Loops is asked again for the team of a key that is used all the same.
const LEARN_INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// The ports that it takes to find the account of a key.
#[derive(Debug)]
pub struct AccountPorts<A, L, P> {
    /// The accounts of the store.
    pub ledger: A,
    /// The Loops API.
    pub loops: L,
    /// Base URL of that API.
    pub api_url: String,
    /// The rate limiter of Loops.
    pub limiter: Arc<P>,
    /// Time, and the random text of a new store.
    pub clock: SharedClock,
}

/// Completes the secrets of a source with the account of their key. Clones share what they know.
#[derive(Debug)]
pub struct AccountSecrets<S, A, L, P>(Arc<Inner<S, A, L, P>>);

#[derive(Debug)]
struct Inner<S, A, L, P> {
    secrets: S,
    ports: AccountPorts<A, L, P>,
    resolved: Mutex<Option<ResolvedKey>>,
    /// Held while an account is looked up, so that one caller asks for all.
    looking_up: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct ResolvedKey {
    api_key: SecretString,
    account: KeyAccount,
    /// Nothing if Loops has answered.
    ask_again_at: Option<Timestamp>,
}

impl<S, A, L, P> Clone for AccountSecrets<S, A, L, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, A, L, P> AccountSecrets<S, A, L, P> {
    /// Completes the secrets of `secrets`.
    pub fn new(secrets: S, ports: AccountPorts<A, L, P>) -> Self {
        let (resolved, looking_up) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { secrets, ports, resolved, looking_up }))
    }
}

impl<S, A, L, P> SecretSource<ClayToLoopsSecret> for AccountSecrets<S, A, L, P>
where
    S: SecretSource<ClayToLoopsSecret>,
    A: AccountLedger,
    L: LoopsClient,
    P: RateLimiter,
{
    async fn current(&self) -> Result<Arc<ClayToLoopsSecret>, SecretError> {
        Ok(self.0.complete(self.0.secrets.current().await?).await)
    }

    async fn refresh(&self) -> Result<Arc<ClayToLoopsSecret>, SecretError> {
        Ok(self.0.complete(self.0.secrets.refresh().await?).await)
    }

    fn describe_field(&self, field: SecretField) -> String {
        self.0.secrets.describe_field(field)
    }
}

impl<S, A: AccountLedger, L: LoopsClient, P: RateLimiter> Inner<S, A, L, P> {
    async fn complete(&self, secret: Arc<ClayToLoopsSecret>) -> Arc<ClayToLoopsSecret> {
        let Some(api_key) = &secret.api_key else { return secret };
        if secret.account.id.is_simulated() {
            return secret;
        }
        let account = self.account_of(api_key).await;
        if account == secret.account {
            return secret;
        }
        Arc::new(ClayToLoopsSecret { account, ..(*secret).clone() })
    }

    async fn account_of(&self, api_key: &SecretString) -> KeyAccount {
        let is_due = |resolved: &ResolvedKey| resolved.ask_again_at.is_some_and(|at| at <= self.ports.clock.now());
        let known = self.resolved_for(api_key);
        if let Some(known) = known.as_ref().filter(|known| !is_due(known)) {
            return known.account.clone();
        }
        let _looking_up = match (self.looking_up.try_lock(), known) {
            (Ok(guard), _) => guard,
            // Another caller asks; what is known serves meanwhile.
            (Err(_), Some(known)) => return known.account,
            (Err(_), None) => self.looking_up.lock().await,
        };
        if let Some(known) = self.resolved_for(api_key).filter(|known| !is_due(known)) {
            return known.account;
        }
        let (account, interval) = self.look_up(api_key).await.unwrap_or_else(|error| {
            error!(%error, "the account of the Loops key cannot be read from the store or recorded there");
            let last = self.lock().as_ref().map(|last| last.account.id.clone()).unwrap_or_default();
            (KeyAccount { id: last, doubt: Some(ReasonCode::Internal) }, Some(SignedDuration::ZERO))
        });
        let now = self.ports.clock.now();
        let ask_again_at = interval.map(|interval| now.saturating_add(interval).unwrap_or(Timestamp::MAX));
        *self.lock() = Some(ResolvedKey { api_key: api_key.clone(), account: account.clone(), ask_again_at });
        account
    }

    /// Returns the account of a key, and how soon Loops is to be asked again, if it is.
    async fn look_up(&self, api_key: &SecretString) -> Result<(KeyAccount, Option<SignedDuration>), StoreError> {
        let AccountPorts { ledger, api_url, clock, .. } = &self.ports;
        let (accounts, _) = load_accounts(ledger, || clock.new_id()).await?;
        if let Some(account) = accounts.account_of(api_url, api_key) {
            if accounts.current(Direction::ClayToLoops) != &account {
                update_accounts(ledger, || clock.new_id(), |accounts| accounts.serve_account(&account)).await?;
            }
            return Ok((KeyAccount::known(account), None));
        }
        let answer = self.ask(api_key).await;
        let resolve = |accounts: &mut ServedAccounts| accounts.resolve(api_url, api_key, &answer);
        let account = update_accounts(ledger, || clock.new_id(), resolve).await?;
        match account.doubt {
            Some(doubt) => warn!(reason = doubt.as_str(), "it is not known which account the Loops key opens"),
            None => info!(account = account.id.as_str(), "the account of the Loops key is known"),
        }
        let has_team = matches!(answer, TeamAnswer::Named(_) | TeamAnswer::Unnamed);
        let interval = if account.doubt.is_some() { DOUBT_INTERVAL } else { LEARN_INTERVAL };
        Ok((account, (!has_team).then_some(interval)))
    }

    async fn ask(&self, api_key: &SecretString) -> TeamAnswer {
        let Some(permit) = self.ports.limiter.try_acquire().await else { return TeamAnswer::Unavailable };
        permit.wait().await;
        // The limiter does not record the response: Loops may take rows although it does not answer this.
        let response = self.ports.loops.read(API_KEY_PATH, api_key, ASK_TIMEOUT).await;
        if let Some(throttle) = response.throttle() {
            self.ports.limiter.throttle_for(throttle).await;
        }
        to_answer(&response)
    }

    fn resolved_for(&self, api_key: &SecretString) -> Option<ResolvedKey> {
        let is_same = |known: &&ResolvedKey| known.api_key.expose_secret() == api_key.expose_secret();
        self.lock().as_ref().filter(is_same).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Option<ResolvedKey>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_answer(response: &DestinationResponse) -> TeamAnswer {
    match response.outcome {
        CallOutcome::Responded(200) => {
            let body: Option<Value> = serde_json::from_slice(&response.body).ok();
            let name = body.as_ref().and_then(|body| body.get("teamName")?.as_str()).unwrap_or_default().trim();
            if name.is_empty() { TeamAnswer::Unnamed } else { TeamAnswer::Named(name.to_owned()) }
        }
        CallOutcome::Responded(401) => TeamAnswer::KeyRejected,
        CallOutcome::Responded(status) if (400..500).contains(&status) && !matches!(status, 408 | 425 | 429) => {
            TeamAnswer::Unnamed
        }
        _ => TeamAnswer::Unavailable,
    }
}
