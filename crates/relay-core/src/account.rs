//! The accounts that a store serves: what was taken for one of them is never given to another.
//!
//! See docs/adr/0016-destination-accounts.md.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub use crate::account_id::AccountId;
use crate::delivery::{Direction, ReasonCode};
use crate::secret::{ExposeSecret as _, SecretString};

/// The account that a Loops key opens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyAccount {
    /// The account; the one that was served last if that is in doubt.
    pub id: AccountId,
    /// Why it is not known, so that nothing may be sent with the key yet: Loops cannot be asked, or refuses the key.
    pub doubt: Option<ReasonCode>,
}

impl KeyAccount {
    /// An account that is known.
    pub const fn known(id: AccountId) -> Self {
        Self { id, doubt: None }
    }
}

/// What stands at the end of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationKind {
    /// A built-in simulator.
    Simulated,
    /// Nothing: no key or webhook is set, and nothing is sent.
    Closed,
    /// Loops, or the webhooks of Clay.
    Real,
}

/// Answer of Loops to the question which team a key belongs to (Loops API reference, "Test your API key").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeamAnswer {
    /// The team of this name.
    Named(String),
    /// An API that names no team.
    Unnamed,
    /// Loops refuses the key.
    KeyRejected,
    /// No answer now.
    Unavailable,
}

/// The accounts that a store has served, as the store keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServedAccounts {
    /// Key of the hashes below, random for each store.
    hash_key: String,
    /// Account that is served now, by direction.
    loops: AccountId,
    clay: AccountId,
    /// Whether a real Clay webhook was ever set.
    real_clay: bool,
    keys: Vec<SeenKey>,
}

/// A Loops key that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenKey {
    /// Keyed hash of API URL and key.
    hash: String,
    account: AccountId,
    team: Team,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Team {
    /// Loops was not asked, or did not answer.
    NotAsked,
    Unnamed,
    /// Keyed hash of API URL and team name.
    Named(String),
}

impl ServedAccounts {
    /// The accounts of a new store, whose hashes are keyed by this random text.
    pub fn new(hash_key: String) -> Self {
        Self { hash_key, ..Self::default() }
    }

    /// Account that a direction serves now.
    pub const fn current(&self, direction: Direction) -> &AccountId {
        match direction {
            Direction::LoopsToClay => &self.clay,
            Direction::ClayToLoops => &self.loops,
        }
    }

    /// Whether a direction has ever served a real destination.
    pub const fn was_real(&self, direction: Direction) -> bool {
        match direction {
            Direction::LoopsToClay => self.real_clay,
            Direction::ClayToLoops => !self.keys.is_empty(),
        }
    }

    /// Records what a direction serves from now on. Which account of Loops it is follows from the key.
    pub fn serve(&mut self, direction: Direction, destination: DestinationKind) {
        match (direction, destination) {
            (Direction::LoopsToClay, DestinationKind::Simulated) => self.clay = AccountId::simulated(),
            (Direction::LoopsToClay, DestinationKind::Closed) => self.clay = AccountId::default(),
            (Direction::LoopsToClay, DestinationKind::Real) => {
                (self.clay, self.real_clay) = (AccountId::default(), true);
            }
            (Direction::ClayToLoops, DestinationKind::Simulated) => self.loops = AccountId::simulated(),
            (Direction::ClayToLoops, DestinationKind::Closed | DestinationKind::Real) => {
                if self.loops.is_simulated() {
                    self.loops = self.keys.last().map(|seen| seen.account.clone()).unwrap_or_default();
                }
            }
        }
    }

    /// The account of a key, if Loops need not be asked for it.
    pub fn account_of(&self, api_url: &str, key: &SecretString) -> Option<AccountId> {
        let seen = self.seen(&self.key_hash(api_url, key))?;
        (seen.team != Team::NotAsked).then(|| seen.account.clone())
    }

    /// Records the account of a key from the answer of Loops, and that it is served from now on.
    ///
    /// A key belongs to the account of its URL and team. An API that names no team cannot tell two accounts apart, so the next
    /// key adopts that account. A new team is a new account, also where the team of the last key was never learnt.
    pub fn resolve(&mut self, api_url: &str, key: &SecretString, answer: &TeamAnswer) -> KeyAccount {
        self.serve(Direction::ClayToLoops, DestinationKind::Real);
        let (hash, last) = (self.key_hash(api_url, key), self.loops.clone());
        let team = match answer {
            TeamAnswer::Named(name) => Team::Named(self.keyed_hash(&["team", api_url, name])),
            TeamAnswer::Unnamed => Team::Unnamed,
            TeamAnswer::KeyRejected => return KeyAccount { id: last, doubt: Some(ReasonCode::LoopsKeyRejected) },
            TeamAnswer::Unavailable => Team::NotAsked,
        };
        let known = self.seen(&hash).map(|seen| seen.account.clone());
        let same_team = self.keys.iter().find(|seen| seen.team == team && matches!(team, Team::Named(_)));
        let teams_of_last: Vec<&Team> =
            self.keys.iter().filter(|seen| seen.account == last).map(|seen| &seen.team).collect();
        let last_is_named = teams_of_last.iter().any(|team| matches!(team, Team::Named(_)));
        let last_is_unlearnt = !teams_of_last.is_empty() && teams_of_last.iter().all(|team| **team == Team::NotAsked);
        let may_adopt = !last_is_named && (team == Team::Unnamed || !last_is_unlearnt);
        let account = match (known, same_team) {
            (Some(account), _) => account,
            (None, Some(seen)) => seen.account.clone(),
            (None, None) if may_adopt => last,
            (None, None) => match &team {
                Team::NotAsked => return KeyAccount { id: last, doubt: Some(ReasonCode::Unreachable) },
                // Where teams have no names, the URL is all that is known of the account.
                Team::Unnamed => AccountId::from_stored(format!("{:.8}", self.keyed_hash(&["url", api_url]))),
                Team::Named(fingerprint) => AccountId::from_stored(format!("{fingerprint:.8}")),
            },
        };
        self.keys.retain(|seen| seen.hash != hash);
        self.keys.push(SeenKey { hash, account: account.clone(), team });
        self.loops = account.clone();
        KeyAccount::known(account)
    }

    /// Records that a key whose account is known is in use.
    pub fn serve_account(&mut self, account: &AccountId) {
        self.loops = account.clone();
    }

    fn seen(&self, hash: &str) -> Option<&SeenKey> {
        self.keys.iter().find(|seen| seen.hash == hash)
    }

    fn key_hash(&self, api_url: &str, key: &SecretString) -> String {
        self.keyed_hash(&["key", api_url, key.expose_secret()])
    }

    fn keyed_hash(&self, parts: &[&str]) -> String {
        // HMAC takes a key of any length (RFC 2104 §2), so this does not fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.hash_key.as_bytes()) else { return String::new() };
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        format!("{:.32}", hex::encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests;
