//! The loop that drains one direction of the store.

use std::sync::Arc;
use std::time::Duration;

use relay::delivery::Deliver;
use relay::ports::rate_limiter::{Readiness, Unavailable};
use relay::telemetry::event::{DeliveryEvent, EventOutcome};
use relay_core::delivery::{AttemptResult, Direction, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use relay_sqlite::store::{ClaimOrder, ClaimedDelivery, SqliteStore};

/// How many deliveries are under way at once: enough to keep the pace with a far end that takes a second to answer.
const MAX_CONCURRENCY: usize = 8;
/// How often the store is asked for what has become due.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the loop waits for a store that fails.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Drains the queue of a direction until `stop` says so; then it ends what is under way.
///
/// What has never failed goes first: what fails whenever it comes must not keep it from an end that is well, least of all as
/// the one that is to show whether the end is back. Every eighth is what has been due longest, so that what has failed has
/// its turn as well.
pub async fn run<A>(store: SqliteStore, direction: Direction, worker: Arc<A>, mut stop: watch::Receiver<bool>)
where
    A: Deliver + 'static,
{
    let mut under_way = JoinSet::new();
    let (mut was_down, mut claims) = (false, 0);
    while !*stop.borrow() {
        let readiness = worker.readiness();
        let most = match readiness {
            Readiness::Ready => MAX_CONCURRENCY,
            Readiness::HalfOpen => 1,
            Readiness::Unavailable(_) => 0,
        };
        match readiness {
            Readiness::HalfOpen | Readiness::Unavailable(Unavailable::CircuitOpen(_)) => was_down = true,
            Readiness::Ready if was_down => was_down = store.release_on_recovery(direction).await.is_err(),
            Readiness::Ready | Readiness::Unavailable(Unavailable::Throttled(_)) => {}
        }
        while under_way.len() < most {
            let first = match readiness {
                Readiness::Ready if claims % MAX_CONCURRENCY == 0 => ClaimOrder::Oldest,
                Readiness::HalfOpen if claims % 2 == 0 => ClaimOrder::NewestNeverFailed,
                Readiness::Ready | Readiness::HalfOpen | Readiness::Unavailable(_) => ClaimOrder::NeverFailed,
            };
            match store.claim(direction, first).await {
                Ok(Some(claimed)) => {
                    claims += 1;
                    under_way.spawn(deliver(store.clone(), Arc::clone(&worker), claimed));
                }
                Ok(None) => break,
                Err(error) => {
                    error!(direction = direction.as_str(), error = %error, "the queue cannot be read");
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                    break;
                }
            }
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = store.wait_for_work() => {}
            Some(_) = under_way.join_next() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

async fn deliver<A: Deliver + 'static>(store: SqliteStore, worker: Arc<A>, claimed: ClaimedDelivery) {
    let ClaimedDelivery { delivery, history } = claimed;
    let mends = store.release_epoch();
    let (id, attempts, failed) = (delivery.id.clone(), history.attempts.saturating_add(1), delivery.clone());
    // In a task of its own: a panic is a failed attempt, not a delivery that nobody has any more.
    let attempted = tokio::spawn(async move { worker.deliver(&delivery, history).await }).await;
    let end = attempted.unwrap_or_else(|_| {
        let reason = Reason::without_status(ReasonCode::Internal);
        DeliveryEvent { reason: Some(reason), attempts, ..DeliveryEvent::for_delivery(&failed, EventOutcome::Retried) }
            .emit();
        retry::retry_or_dead_letter(history, reason, None, store.now(), store.chance())
    });
    // What the far end did must be known before anything else is sent, however long the store takes.
    while let Err(error) = store.finish_attempt(&id, end).await {
        error!(delivery.id = %id, error = %error, "the end of an attempt cannot be recorded");
        tokio::time::sleep(STORE_RETRY_DELAY).await;
    }
    // Its attempt may have begun before what it is held for was mended.
    if matches!(end, AttemptResult::HoldUntil { .. })
        && store.release_epoch() != mends
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

    use super::*;
    use relay_sqlite::store::open;

    /// Held the first time; and while it is under way, what it is held for is mended, or not.
    struct HeldOnce {
        store: SqliteStore,
        mended: bool,
        tries: AtomicU32,
    }

    impl Deliver for HeldOnce {
        fn readiness(&self) -> Readiness {
            Readiness::Ready
        }

        async fn deliver(&self, _: &Delivery, _: AttemptHistory) -> AttemptResult {
            if self.tries.fetch_add(1, Ordering::SeqCst) > 0 {
                return AttemptResult::Delivered;
            }
            if self.mended {
                self.store.release_all_held().await.unwrap();
            }
            let at = SystemClock.now() + SignedDuration::from_hours(1);
            AttemptResult::HoldUntil { at, reason: Reason::without_status(ReasonCode::NoWebhook) }
        }
    }

    /// How often a delivery was tried that was held, once nothing more happens to it by itself.
    async fn tries(mended: bool) -> u32 {
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
        let attempt = Arc::new(HeldOnce { store: store.clone(), mended, tries: AtomicU32::new(0) });
        let claimed = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest).await.unwrap().unwrap();
        deliver(store.clone(), Arc::clone(&attempt), claimed).await;
        if let Some(again) = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest).await.unwrap() {
            deliver(store.clone(), Arc::clone(&attempt), again).await;
        }
        attempt.tries.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn what_is_mended_while_a_delivery_is_under_way_is_not_waited_for() {
        assert_eq!(tries(true).await, 2);
        assert_eq!(tries(false).await, 1);
    }
}
