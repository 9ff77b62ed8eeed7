//! Any store, as the behaviour tests in `tests/store_contract` see it: the ports, and what a test does to it besides. Its clock is
//! moved by the test, and its far end does as it is told.

pub mod aws;
pub mod aws_fake;
mod batches;
pub mod scripted_destination;
pub mod sqlite;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relay::ports::fast_path::FastPath;
use relay::ports::queue::Queue;
use relay::ports::webhook_usage::WebhookLedger;
use relay_core::delivery::DeliveryId;

use scripted_destination::{ManualClock, ScriptedDestination};

/// Reasons, each with the far end's status, and how often each occurred.
pub type FailureCounts = BTreeMap<(String, Option<u16>), u64>;

/// When a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The far end has the delivery, and that is not recorded.
    BeforeRecord,
    /// It is recorded, and nothing else is done.
    AfterRecord,
}

/// What a store knows of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySnapshot {
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    /// How many attempts were begun.
    pub attempts: u32,
    /// Why it waits or died, and the far end's status.
    pub reason: Option<(String, Option<u16>)>,
    /// When the first attempt was begun.
    pub first_attempt_at: Option<Timestamp>,
    /// When the last attempt was begun.
    pub last_attempt_at: Option<Timestamp>,
    /// How often each reason occurred.
    pub failures: FailureCounts,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterSnapshot {
    /// The delivery's id.
    pub id: String,
    /// Why it died.
    pub reason: String,
    /// The far end's last status.
    pub status: Option<u16>,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the relay took it.
    pub received_at: Timestamp,
    /// When it died.
    pub died_at: Timestamp,
}

/// A store and its worker.
pub trait StoreHarness: Sized {
    /// Whether waiting deliveries go out early when another one of their destination gets through. On AWS they wait for their
    /// visibility timeout.
    const RELEASES_EARLY: bool;

    /// A new one, with nothing in it.
    fn new() -> impl Future<Output = Self>;

    /// Its clock.
    fn clock(&self) -> &Arc<ManualClock>;

    /// Where events wait for Clay.
    fn queue(&self) -> &impl Queue;

    /// The lane past the queue to Loops.
    fn fast_path(&self) -> &impl FastPath;

    /// What Clay's webhooks have taken.
    fn webhook_usage(&self) -> &impl WebhookLedger;

    /// Sends what is due, in both directions, until nothing is.
    fn work(&mut self, destination: &ScriptedDestination) -> impl Future<Output = ()>;

    /// Begins to send what is due, is killed, and starts anew with what is stored.
    fn crash_during_work(
        &mut self,
        destination: &ScriptedDestination,
        crash_point: CrashPoint,
    ) -> impl Future<Output = ()>;

    /// Lets time pass; what is to be forgotten by then is.
    fn advance(&mut self, duration: SignedDuration) -> impl Future<Output = ()>;

    /// What is known of a delivery, if anything is.
    fn snapshot(&self, id: &DeliveryId) -> impl Future<Output = Option<DeliverySnapshot>>;

    /// The dead letters, in any order.
    fn dead_letters(&self) -> impl Future<Output = Vec<DeadLetterSnapshot>>;

    /// Lets a dead letter be sent again, as a person does.
    fn redrive(&mut self, id: &DeliveryId) -> impl Future<Output = ()>;
}
