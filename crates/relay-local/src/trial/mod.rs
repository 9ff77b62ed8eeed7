//! The trial: what a newcomer does with simulated destinations. A contact is created in Loops, a row calls the relay as Clay
//! does, a destination fails and is mended.
//!
//! A destination that is real is left alone: it gets nothing from here.

mod call;
mod error;
mod routes;
mod simulators;
#[cfg(test)]
mod tests;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use relay::destination::http_client::{self, BuildError, HttpClient};
use relay::ports::clock::{Clock as _, SystemClock};
use relay::ports::secrets::{LoopsToClaySecret, SecretSource};
use relay::routes::WEBHOOK_PATH;
use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_simulator::{Behavior, Clay, Loops, contact_created_body};
use relay_sqlite::SqliteStore;
use relay_sqlite::data_dir::config::loopback_address;
use relay_sqlite::data_dir::destinations::destination_name;
use serde_json::Value;
use tracing::warn;

use crate::commands::send_webhook;
use crate::commands::sign::SignedHeaders;
use crate::reloading_secrets::ReloadingSecrets;

pub(crate) use error::TrialError;
pub use routes::routes;
pub(crate) use simulators::Simulators;

/// The simulated destinations of a running relay, and what calls that relay as Loops and Clay do. The simulators run until it
/// is dropped.
#[derive(Debug)]
pub struct Trial {
    simulators: Simulators,
    /// Where the relay is, as `http://…`.
    base: String,
    client: HttpClient,
    secrets: ReloadingSecrets,
    store: SqliteStore,
}

impl Trial {
    /// The trial of the relay at this address.
    pub(crate) fn new(
        simulators: Simulators,
        relay_address: SocketAddr,
        secrets: ReloadingSecrets,
        store: SqliteStore,
    ) -> Result<Self, BuildError> {
        let base = format!("http://{}", loopback_address(relay_address));
        // With connections of its own: those to the destinations are not to be judged by how the relay answers.
        Ok(Self { simulators, base, client: http_client::build()?, secrets, store })
    }

    /// Whether a destination is simulated now: one that was may be closed or real since its secret was stored.
    pub fn is_simulated(&self) -> bool {
        self.loops().is_some() || self.clay().is_some()
    }

    fn loops(&self) -> Option<&Loops> {
        let is_simulated = self.secrets.destination(Direction::ClayToLoops) == DestinationKind::Simulated;
        self.simulators.loops.as_ref().filter(|_| is_simulated)
    }

    fn clay(&self) -> Option<&Clay> {
        let is_simulated = self.secrets.destination(Direction::LoopsToClay) == DestinationKind::Simulated;
        self.simulators.clay.as_ref().filter(|_| is_simulated)
    }

    /// Fails if a call in this direction could reach the real destination.
    fn refuse_real(&self, direction: Direction) -> Result<(), TrialError> {
        match self.secrets.destination(direction) {
            DestinationKind::Real => Err(TrialError::Real(destination_name(direction))),
            DestinationKind::Simulated | DestinationKind::Closed => Ok(()),
        }
    }

    /// Creates a contact in the simulated Loops, and sends the relay the webhook about it. Returns the relay's answer.
    async fn create_contact(&self, fields: &[u8]) -> Result<(u16, Value), TrialError> {
        let loops = self.loops().ok_or(TrialError::NotSimulated(destination_name(Direction::ClayToLoops)))?;
        self.refuse_real(Direction::LoopsToClay)?;
        let secret: Arc<LoopsToClaySecret> = self.secrets.current().await?;
        let signing_secret = secret.signing_secrets.first().ok_or(TrialError::NoSigningSecret)?;
        let contact = loops.create_contact(fields)?;
        let body = contact_created_body(&contact, Timestamp::now());
        let id = format!("msg_{}", SystemClock.new_id());
        let signed =
            SignedHeaders::new(signing_secret, id, SystemClock.now().as_second().to_string(), body.into_bytes());
        let answer = send_webhook::post(&self.client, &signed, &format!("{}{WEBHOOK_PATH}", self.base)).await;
        let (status, body) = answer.ok_or(TrialError::NoAnswer)?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// Changes how a destination answers, and returns whether that is a change. What failed is due once it answers again.
    async fn set_behavior(&self, direction: Direction, behavior: Behavior) -> Result<bool, TrialError> {
        let not_simulated = TrialError::NotSimulated(destination_name(direction));
        let before = match direction {
            Direction::LoopsToClay => self.clay().ok_or(not_simulated)?.set_behavior(behavior),
            Direction::ClayToLoops => self.loops().ok_or(not_simulated)?.set_behavior(behavior),
        };
        if behavior == Behavior::Normal {
            self.release(direction).await;
        }
        Ok(before != behavior)
    }

    /// Makes what has failed in a direction due, as the worker does when a destination is back.
    async fn release(&self, direction: Direction) {
        let mut position = None;
        loop {
            position = match self.store.release_on_recovery(direction, position).await {
                Ok(Some(position)) => Some(position),
                Ok(None) => return,
                Err(error) => return warn!(%error, "what has failed is not tried at once, but when it is due"),
            };
        }
    }
}
