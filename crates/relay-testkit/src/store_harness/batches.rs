//! What is the same wherever workers take batches of queues: on AWS, whoever emulates it.

use std::future::Future;

use jiff::Timestamp;
use relay_aws::sqs::{dead_letter, message};

use super::{Letter, Moment};
use crate::store_harness::scripted_destination::{Answer, End};

/// How many batches are worked on before it is said that there is no end.
const MOST_BATCHES: u32 = 200;

/// A store whose workers take batches.
pub(super) trait Batches {
    /// Hands one batch to the worker to Clay, who is killed at that moment; false where there is none.
    fn batch_to_clay(&mut self, end: &End, moment: Option<Moment>) -> impl Future<Output = bool>;

    /// Hands one batch to the worker to Loops; false where there is none.
    fn batch_to_loops(&mut self, end: &End) -> impl Future<Output = bool>;

    /// Forgets what workers remember as long as they live.
    fn forget_workers(&mut self);
}

/// Works on batches until nothing is due.
pub(super) async fn work_on_batches(store: &mut impl Batches, end: &End) {
    let mut batches = 0;
    while store.batch_to_clay(end, None).await || store.batch_to_loops(end).await {
        batches += 1;
        assert!(batches < MOST_BATCHES, "there is always something due");
    }
}

/// Works on one batch to Clay, and is killed at that moment.
pub(super) async fn die_in_a_batch(store: &mut impl Batches, end: &End, moment: Moment) {
    if moment == Moment::BeforeTheRecord {
        end.then([Answer::TakesAndHangs]);
    }
    assert!(store.batch_to_clay(end, Some(moment)).await, "nothing is due");
    store.forget_workers();
}

/// The dead letter in a message, by its body and its attributes.
pub(super) fn letter(body: &str, attribute: impl Fn(&str) -> Option<String>) -> Letter {
    let time = |name: &str| attribute(name).and_then(|time| time.parse::<Timestamp>().ok());
    Letter {
        id: message::decode(body).unwrap_or_else(|error| panic!("{error}")).id.as_str().to_owned(),
        reason: attribute(dead_letter::REASON).unwrap_or_default(),
        status: attribute(dead_letter::STATUS).and_then(|status| status.parse().ok()),
        attempts: attribute(dead_letter::ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(u32::MAX),
        received_at: time(dead_letter::RECEIVED_AT).unwrap_or_default(),
        died_at: time(dead_letter::DIED_AT).unwrap_or_default(),
    }
}
