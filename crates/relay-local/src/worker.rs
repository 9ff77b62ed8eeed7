//! The worker of one direction's queue.

use std::sync::Arc;
use std::time::Duration;

use relay::delivery::Deliver;
use relay::ports::rate_limiter::{Readiness, Unavailable};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::{AttemptResult, Direction, FinishedAttempt, Reason, ReasonCode};
use relay_core::policy::retry;
use relay_sqlite::{ClaimOrder, ClaimedDelivery, SqliteStore};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

/// Maximum number of deliveries in progress: enough for the full rate at a destination that takes a second to respond.
const MAX_CONCURRENCY: usize = 8;
/// Maximum time between two polls for due deliveries.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Pause after an error of the store.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Sends the deliveries of a direction until `stop` is true, then finishes those in progress.
///
/// Deliveries that have never failed go first: one that fails every time must not keep them from a healthy destination, least
/// of all as the probe of an open circuit. Every eighth claim takes the oldest due delivery, so that failed ones are retried.
pub async fn run<D>(store: SqliteStore, direction: Direction, deliverer: Arc<D>, mut stop: watch::Receiver<bool>)
where
    D: Deliver + 'static,
{
    let mut in_flight = JoinSet::new();
    let (mut was_unavailable, mut released_to, mut claim_count) = (false, None, 0);
    while !*stop.borrow() {
        let readiness = deliverer.readiness();
        let max_in_flight = match readiness {
            Readiness::Ready => MAX_CONCURRENCY,
            Readiness::HalfOpen => 1,
            Readiness::Unavailable(_) => 0,
        };
        match readiness {
            Readiness::HalfOpen | Readiness::Unavailable(Unavailable::CircuitOpen(_)) => {
                (was_unavailable, released_to) = (true, None);
            }
            // A step at a time, so that what is due is sent meanwhile.
            Readiness::Ready if was_unavailable => {
                if let Ok(position) = store.release_on_recovery(direction, released_to).await {
                    (was_unavailable, released_to) = (position.is_some(), position);
                }
            }
            Readiness::Ready | Readiness::Unavailable(Unavailable::Throttled(_)) => {}
        }
        while in_flight.len() < max_in_flight {
            let free = max_in_flight - in_flight.len();
            let (order, max) = match readiness {
                Readiness::Ready if claim_count % MAX_CONCURRENCY == 0 => (ClaimOrder::Oldest, 1),
                Readiness::HalfOpen if claim_count % 2 == 0 => (ClaimOrder::NewestNeverFailed, 1),
                Readiness::Ready | Readiness::HalfOpen | Readiness::Unavailable(_) => {
                    (ClaimOrder::NeverFailed, free.min(MAX_CONCURRENCY - claim_count % MAX_CONCURRENCY))
                }
            };
            match store.claim(direction, order, max).await {
                Ok(claimed) if claimed.is_empty() => break,
                Ok(claimed) => {
                    claim_count += claimed.len();
                    for claimed in claimed {
                        in_flight.spawn(deliver(store.clone(), Arc::clone(&deliverer), claimed));
                    }
                }
                Err(error) => {
                    error!(direction = direction.as_str(), error = %error, "the queue cannot be read");
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                    break;
                }
            }
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = store.wait_for_work(direction) => {}
            Some(_) = in_flight.join_next() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
    while in_flight.join_next().await.is_some() {}
}

async fn deliver<D: Deliver + 'static>(store: SqliteStore, deliverer: Arc<D>, claimed: ClaimedDelivery) {
    let ClaimedDelivery { delivery, history } = claimed;
    let (release_epoch, began_at) = (store.release_epoch(), store.clock().now());
    let (id, attempts, panicked_delivery) = (delivery.id.clone(), history.attempts.saturating_add(1), delivery.clone());
    // In a task of its own: a panic is a failed attempt and does not lose the delivery.
    let attempt_result = tokio::spawn(async move { deliverer.deliver(&delivery, history).await }).await;
    let finished = attempt_result.unwrap_or_else(|_| {
        let reason = Reason::without_status(ReasonCode::Internal);
        let event = DeliveryEvent::for_delivery(&panicked_delivery, EventOutcome::Retried);
        DeliveryEvent { reason: Some(reason), attempts, ..event }.emit();
        let result = retry::retry_or_dead_letter(history, reason, None, store.clock().now(), store.clock().random());
        let has_key = panicked_delivery.kind.idempotency_key().is_some();
        FinishedAttempt::new(result, history, began_at, has_key)
    });
    // The result must be recorded before the contact's next delivery is sent, however long the store takes.
    while let Err(error) = store.finish_attempt(&id, finished.clone()).await {
        error!(delivery.id = %id, error = %error, "the end of an attempt cannot be recorded");
        tokio::time::sleep(STORE_RETRY_DELAY).await;
    }
    // The cause may have been fixed while the attempt was in progress.
    if matches!(finished.result, AttemptResult::HoldUntil { .. })
        && store.release_epoch() != release_epoch
        && let Err(error) = store.release_held(&id).await
    {
        error!(delivery.id = %id, error = %error, "what is held could not be freed: it is tried within 15 minutes");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use jiff::{SignedDuration, Timestamp};
    use relay::ports::clock::{Clock as _, SystemClock};
    use relay::ports::queue::Queue as _;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{AttemptHistory, Delivery, DeliveryId, DeliveryKind};
    use relay_sqlite::open;

    use super::*;

    /// Holds the first attempt, and may release all held deliveries while it is in progress.
    struct HeldOnFirstAttempt {
        store: SqliteStore,
        release_meanwhile: bool,
        attempts: AtomicU32,
    }

    impl Deliver for HeldOnFirstAttempt {
        fn readiness(&self) -> Readiness {
            Readiness::Ready
        }

        async fn deliver(&self, _: &Delivery, _: AttemptHistory) -> FinishedAttempt {
            if self.attempts.fetch_add(1, Ordering::SeqCst) > 0 {
                return AttemptResult::Delivered.into();
            }
            if self.release_meanwhile {
                self.store.release_all_held().await.unwrap();
            }
            let at = SystemClock.now() + SignedDuration::from_hours(1);
            AttemptResult::HoldUntil { at, reason: Reason::without_status(ReasonCode::NoWebhook) }.into()
        }
    }

    /// Returns the number of attempts at a held delivery until it is not claimable.
    async fn attempts_of_held(release_meanwhile: bool) -> u32 {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        let store = SqliteStore::new(opened, Arc::new(SystemClock));
        let delivery = Delivery {
            id: DeliveryId::for_webhook("a", "msg_1"),
            contact: ContactKey::from_email("ada@example.com"),
            kind: DeliveryKind::ClayRow { route: "a".to_owned(), webhook_id: "msg_1".to_owned() },
            body: Bytes::from_static(b"{}"),
            received_at: SystemClock.now(),
        };
        store.enqueue(&delivery).await.unwrap();
        let deliverer =
            Arc::new(HeldOnFirstAttempt { store: store.clone(), release_meanwhile, attempts: AtomicU32::new(0) });
        let claimed = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, 1).await.unwrap().remove(0);
        deliver(store.clone(), Arc::clone(&deliverer), claimed).await;
        if let Some(claimed_again) = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, 1).await.unwrap().pop() {
            deliver(store.clone(), Arc::clone(&deliverer), claimed_again).await;
        }
        deliverer.attempts.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn release_during_attempt_retries_held_delivery_at_once() {
        assert_eq!(attempts_of_held(true).await, 2);
        assert_eq!(attempts_of_held(false).await, 1);
    }
}
