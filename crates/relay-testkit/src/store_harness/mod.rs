//! A store as the tests of `tests/store_contract` see it: its ports, the operations of the test, a clock that the test
//! moves, and a scripted destination.

pub mod aws;
pub mod aws_fake;
mod batches;
pub mod scripted_destination;
pub mod sqlite;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relay::ports::accounts::AccountLedger;
use relay::ports::delivery_status::DeliveryStatusSource;
use relay::ports::queue::Queue;
use relay::ports::row_intake::RowIntake;
use relay::ports::webhook_usage::WebhookLedger;
use relay_core::delivery::DeliveryId;

use scripted_destination::{ManualClock, ScriptedDestination};

/// Failure counts by reason and destination status.
pub type FailureCounts = BTreeMap<(String, Option<u16>), u64>;

/// When a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The destination has the delivery, and that is not recorded.
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
    /// Reason of its last failure, with the destination's status.
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
    /// Code of its last failure.
    pub reason: String,
    /// The destination's last status.
    pub status: Option<u16>,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the relay received it.
    pub received_at: Timestamp,
    /// When it was dead-lettered.
    pub dead_lettered_at: Timestamp,
}

/// A store and its worker.
pub trait StoreHarness: Sized {
    /// Whether waiting deliveries go out early when another one of their destination gets through. On AWS they wait for
    /// their visibility timeout.
    const RELEASES_EARLY: bool;

    /// A new one, with nothing in it.
    fn new() -> impl Future<Output = Self>;

    /// Its clock.
    fn clock(&self) -> &Arc<ManualClock>;

    /// Where events wait for Clay.
    fn queue(&self) -> &impl Queue;

    /// Returns the fast path to Loops.
    fn intake(&self) -> &impl RowIntake;

    /// Returns the accounts that were served.
    fn accounts(&self) -> &impl AccountLedger;

    /// Returns where the status of a delivery is found.
    fn statuses(&self) -> &impl DeliveryStatusSource;

    /// Returns the usage of Clay's webhooks.
    fn webhook_usage(&self) -> &impl WebhookLedger;

    /// Sends what is due, in both directions, until nothing is. A worker that gets no response is killed.
    fn work(&mut self, destination: &ScriptedDestination) -> impl Future<Output = ()>;

    /// Starts to send what is due, is killed, and restarts with the stored state.
    fn crash_during_work(
        &mut self,
        destination: &ScriptedDestination,
        crash_point: CrashPoint,
    ) -> impl Future<Output = ()>;

    /// Advances the clock, and deletes expired records.
    fn advance(&mut self, duration: SignedDuration) -> impl Future<Output = ()>;

    /// Returns the record of a delivery.
    fn snapshot(&self, id: &DeliveryId) -> impl Future<Output = Option<DeliverySnapshot>>;

    /// Returns the dead letters, in any order.
    fn dead_letters(&self) -> impl Future<Output = Vec<DeadLetterSnapshot>>;

    /// Redrives a dead letter, as an operator does.
    fn redrive(&mut self, id: &DeliveryId) -> impl Future<Output = ()>;

    /// Kills the callers on the fast path: nobody holds a lock any more.
    fn kill_callers(&mut self) -> impl Future<Output = ()>;
}
