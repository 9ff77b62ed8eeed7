//! The port of a console: the relay that it shows and operates.

use std::error::Error;
use std::future::Future;

use relay::ports::admin::Admin;
use relay::ports::dead_letters::DeadLetterQueue;
use relay_core::delivery::Direction;
use serde::Serialize;
use tokio::sync::watch;

use crate::error::ConsoleError;
use crate::view::{Connect, Overview};

/// The relay that a console shows and operates. Its futures run on a thread of their own and need not be `Send`.
pub trait ConsoleBackend: Send + Sync + 'static {
    /// The deliveries.
    type Admin: Admin<Error: Error + Send + Sync>;
    /// What an examination finds.
    type Finding: Serialize + Send;
    /// The dead letters.
    type DeadLetters: DeadLetterQueue<Error: Error + Send + Sync>;

    /// Opens the deliveries.
    ///
    /// # Errors
    /// [`ConsoleError::Unavailable`] if the store cannot be opened.
    fn admin(&self) -> Result<Self::Admin, ConsoleError>;

    /// Opens the dead letters of a direction, or of both.
    ///
    /// # Errors
    /// [`ConsoleError::Unavailable`] if the queue cannot be opened.
    fn dead_letters(&self, direction: Option<Direction>) -> Result<Self::DeadLetters, ConsoleError>;

    /// Returns what flows now, and flowed in the last hour.
    fn overview(&self) -> impl Future<Output = Result<Overview, ConsoleError>>;

    /// Returns the hash under which a contact, by address or user id, is on record. It is not kept.
    fn contact_hash(&self, contact: &str) -> impl Future<Output = Result<Option<String>, ConsoleError>>;

    /// Returns the names of the routes, by which a webhook's deliveries are found. Empty for those of the store.
    fn route_names(&self) -> impl Future<Output = Result<Vec<String>, ConsoleError>>;

    /// Pauses or resumes a direction. Returns false if it was so before.
    fn set_paused(&self, direction: Direction, paused: bool) -> impl Future<Output = Result<bool, ConsoleError>>;

    /// Returns what to paste into Loops and Clay, and what is missing.
    fn connect(&self) -> impl Future<Output = Result<Connect, ConsoleError>>;

    /// Examines the relay, as `relayctl doctor` does. Nothing reaches Loops or Clay but a check of the key.
    fn examine(&self) -> impl Future<Output = Result<Vec<Self::Finding>, ConsoleError>>;

    /// Dead letters that are redriven a second.
    fn redrives_per_second(&self) -> u32;

    /// Reports each change, if the relay runs in this process. The page of any other relay polls.
    fn changes(&self) -> Option<watch::Receiver<u64>>;
}
