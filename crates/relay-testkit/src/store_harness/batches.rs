//! Shared by the harnesses whose workers process batches of queues.

use std::future::Future;

use jiff::Timestamp;
use relay_aws::sqs::{dead_letter, message};

use super::{CrashPoint, DeadLetterSnapshot};
use crate::store_harness::scripted_destination::{Reply, ScriptedDestination};

/// Batches after which a test fails, because the work does not end.
const MAX_BATCHES: u32 = 200;

/// A store whose workers process batches.
pub(super) trait BatchHarness {
    /// Invokes the worker to Clay with one batch and kills it at this point; false if there is no batch.
    fn process_clay_batch(
        &mut self,
        destination: &ScriptedDestination,
        crash_point: Option<CrashPoint>,
    ) -> impl Future<Output = bool>;

    /// Hands one batch to the worker to Loops; false where there is none.
    fn process_loops_batch(&mut self, destination: &ScriptedDestination) -> impl Future<Output = bool>;
}

/// Works on batches until nothing is due.
pub(super) async fn drain_batches(store: &mut impl BatchHarness, destination: &ScriptedDestination) {
    let mut batches = 0;
    while store.process_clay_batch(destination, None).await || store.process_loops_batch(destination).await {
        batches += 1;
        assert!(batches < MAX_BATCHES, "there is always something due");
    }
}

/// Works on one batch to Clay, and is killed at that moment.
pub(super) async fn crash_in_batch(
    store: &mut impl BatchHarness,
    destination: &ScriptedDestination,
    crash_point: CrashPoint,
) {
    if crash_point == CrashPoint::BeforeRecord {
        destination.enqueue_replies([Reply::AcceptThenHang]);
    }
    assert!(store.process_clay_batch(destination, Some(crash_point)).await, "nothing is due");
}

/// Converts the body and attributes of a dead-letter message.
pub(super) fn dead_letter_from_message(body: &str, attribute: impl Fn(&str) -> Option<String>) -> DeadLetterSnapshot {
    let time_attr = |name: &str| attribute(name).and_then(|time| time.parse::<Timestamp>().ok());
    DeadLetterSnapshot {
        id: message::decode(body).unwrap_or_else(|error| panic!("{error}")).id.as_str().to_owned(),
        reason: attribute(dead_letter::REASON).unwrap_or_default(),
        status: attribute(dead_letter::STATUS).and_then(|status| status.parse().ok()),
        attempts: attribute(dead_letter::ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(u32::MAX),
        received_at: time_attr(dead_letter::RECEIVED_AT).unwrap_or_default(),
        dead_lettered_at: time_attr(dead_letter::DIED_AT).unwrap_or_default(),
    }
}
