//! A batch of queue messages: groups side by side, each group in its order, and every message's fate its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use jiff::Timestamp;
use relay::ambient::Ambient;
use relay::pace::{LeftAlone, Readiness};
use relay_core::backoff;
use relay_core::delivery::{Delivery, Disposition};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::envelope;
use crate::queue::SqsQueue;

/// What has to be left of a function's time for another message to be begun: the turn, a call and its record.
const TIME_FOR_ONE: Duration = Duration::from_secs(30);
/// What is kept of a function's time to tell which messages come back.
const TIME_TO_TELL: Duration = Duration::from_secs(4);
/// When a message is looked at again whose turn has not come.
const NOT_YET: Duration = Duration::from_secs(2);
/// The longest that SQS hides a message.
const LONGEST_HIDDEN: i64 = 12 * 60 * 60;
/// The reason of a message that is no delivery.
const MALFORMED: &str = "malformed";

/// What a worker makes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has ended: the message is not needed any more.
    Ended(Disposition),
    /// It is delivered, and had failed or waited for a person: others that wait for the same may go as well.
    Freed,
    /// It has not ended: the message comes back at that time, and not before.
    Back(Timestamp),
    /// It has not ended: the message comes back at that time, or when another delivery gets through.
    Parked(Timestamp),
    /// Its turn has not come: the message comes back in a moment.
    NotYet,
    /// What has to be asked or told cannot be reached: the message comes back later each time, because the queue counts
    /// how often it is received.
    Unable,
}

/// What is done with one message.
pub trait MessageWorker: Send + Sync {
    /// Works on one delivery.
    fn work(&self, delivery: &Delivery) -> impl Future<Output = Fate> + Send;

    /// Whether the far end can be tried now.
    fn readiness(&self) -> Readiness;

    /// Notes by which receipt a delivery can be shown again before its time.
    fn park(&self, delivery: &Delivery, receipt: &str) -> impl Future<Output = ()> + Send;

    /// The receipts of deliveries that are parked.
    fn parked(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Works through a batch until the function's time is nearly up, and tells which messages are to come back.
pub async fn run<W, A>(
    worker: &W,
    queue: &SqsQueue,
    ambient: &A,
    event: SqsEvent,
    deadline: Instant,
) -> SqsBatchResponse
where
    W: MessageWorker,
    A: Ambient,
{
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for message in event.records {
        let group = message.attributes.get("MessageGroupId").cloned().unwrap_or_default();
        groups.entry(group).or_default().push(message);
    }
    let groups = groups.iter().map(|(group, messages)| run_group(worker, queue, ambient, group, messages, deadline));
    let mut response = SqsBatchResponse::default();
    for id in join_all(groups).await.into_iter().flatten() {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        response.batch_item_failures.push(failure);
    }
    response
}

/// The ids of the messages that come back: the first that has not ended, and all behind it.
async fn run_group<W: MessageWorker, A: Ambient>(
    worker: &W,
    queue: &SqsQueue,
    ambient: &A,
    group: &str,
    messages: &[SqsMessage],
    deadline: Instant,
) -> Vec<String> {
    for (place, message) in messages.iter().enumerate() {
        let wait = if deadline.saturating_duration_since(Instant::now()) < TIME_FOR_ONE {
            Some(Duration::ZERO)
        } else {
            // Whoever is ended by Lambda takes the other groups along.
            match tokio::time::timeout_at(deadline - TIME_TO_TELL, one(worker, queue, ambient, group, message)).await {
                Ok(wait) => wait,
                Err(_) => {
                    error!(message.id = message.message_id, "a delivery takes too long: it comes back");
                    Some(backoff::wait(receives(message), None, ambient.chance()))
                }
            }
        };
        if let Some(wait) = wait {
            hide(queue, message, wait).await;
            return messages.iter().skip(place).filter_map(|message| message.message_id.clone()).collect();
        }
    }
    Vec::new()
}

/// Works on one message; how long it has to wait, if it has to come back.
async fn one<W: MessageWorker, A: Ambient>(
    worker: &W,
    queue: &SqsQueue,
    ambient: &A,
    group: &str,
    message: &SqsMessage,
) -> Option<Duration> {
    let body = message.body.as_deref().unwrap_or_default();
    let id = message.message_id.as_deref().unwrap_or_default();
    let Ok(delivery) = envelope::open(body) else {
        error!(message.id = id, "a message that is no delivery goes to the dead letters");
        return match queue.bury(body, group, id, MALFORMED, None).await {
            Ok(()) => None,
            Err(fault) => {
                error!(message.id = id, %fault, "a dead letter cannot be stored");
                Some(backoff::wait(receives(message), None, ambient.chance()))
            }
        };
    };
    let receipt = message.receipt_handle.as_deref().unwrap_or_default();
    if let Readiness::LeftAlone(left_alone) = worker.readiness() {
        // Not even begun. It comes back later each time, because the queue counts how often it is received.
        info!(delivery.id = %delivery.id, %left_alone, "not begun");
        worker.park(&delivery, receipt).await;
        let (LeftAlone::Full(left) | LeftAlone::Down(left)) = left_alone;
        return Some(left.max(backoff::wait(receives(message), None, ambient.chance())));
    }
    let fate = worker.work(&delivery).await;
    log(&delivery, fate);
    match fate {
        Fate::Ended(Disposition::Dead(reason)) => match queue.bury_delivery(&delivery, reason).await {
            Ok(()) => None,
            Err(fault) => {
                error!(delivery.id = %delivery.id, %fault, "a dead letter cannot be stored");
                Some(backoff::wait(receives(message), None, ambient.chance()))
            }
        },
        Fate::Ended(_) => None,
        Fate::Freed => {
            // One that has come back by itself has another receipt by now.
            let parked = worker.parked().await;
            join_all(parked.iter().map(|receipt| queue.put_back(receipt, 0))).await;
            None
        }
        Fate::Parked(at) => {
            worker.park(&delivery, receipt).await;
            Some(until(at, ambient))
        }
        Fate::Back(at) => Some(until(at, ambient)),
        Fate::NotYet => Some(NOT_YET),
        Fate::Unable => Some(backoff::wait(receives(message), None, ambient.chance())),
    }
}

fn until<A: Ambient>(at: Timestamp, ambient: &A) -> Duration {
    Duration::try_from(at.duration_since(ambient.now())).unwrap_or_default()
}

/// How often the message was received.
fn receives(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

async fn hide(queue: &SqsQueue, message: &SqsMessage, wait: Duration) {
    let Some(receipt) = &message.receipt_handle else { return };
    // SQS counts whole seconds, and nobody is asked before the time that was asked for.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = i64::try_from(seconds).unwrap_or(LONGEST_HIDDEN).min(LONGEST_HIDDEN);
    if let Err(fault) = queue.put_back(receipt, i32::try_from(seconds).unwrap_or(i32::MAX)).await {
        // It then comes back when the queue's own time is up: later, but it comes.
        warn!(%fault, "a message could not be put back in time");
    }
}

fn log(delivery: &Delivery, fate: Fate) {
    let id = delivery.id.as_str();
    match fate {
        Fate::Ended(Disposition::Delivered) | Fate::Freed => info!(delivery.id = id, "delivered"),
        Fate::Ended(Disposition::Dead(reason)) => {
            error!(delivery.id = id, reason = reason.code.as_str(), status = reason.status, "dead letter");
        }
        Fate::Ended(Disposition::TryLater { .. } | Disposition::Hold { .. }) | Fate::Back(_) | Fate::Parked(_) => {
            warn!(delivery.id = id, "to be tried again");
        }
        Fate::NotYet => info!(delivery.id = id, "not its turn yet"),
        // What could not be reached is told where it was tried.
        Fate::Unable => {}
    }
}
