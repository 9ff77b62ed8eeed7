//! The loop that drains one direction of the store.

use std::sync::Arc;
use std::time::Duration;

use relay::ports::queue::Attempt;
use relay::rate_limit::limiter::{LeftAlone, Readiness};
use relay::telemetry::event::{Became, Signal};
use relay_core::delivery::{Direction, Disposition, Reason, ReasonCode};
use relay_core::policy::retry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use relay_sqlite::store::{Claimed, First, SqliteStore};

/// How many deliveries are under way at once: enough to keep the pace with a far end that takes a second to answer.
const AT_ONCE: usize = 8;
/// How often the store is asked for what has become due.
const POLL: Duration = Duration::from_millis(250);
/// How long the loop waits for a store that fails.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Drains the queue of a direction until `stop` says so; then it ends what is under way.
///
/// What has never failed goes first: what fails whenever it comes must not keep it from an end that is well, least of all as
/// the one that is to show whether the end is back. Every eighth is what has been due longest, so that what has failed has
/// its turn as well.
pub async fn drain<A>(store: SqliteStore, direction: Direction, worker: Arc<A>, mut stop: watch::Receiver<bool>)
where
    A: Attempt + 'static,
{
    let mut under_way = JoinSet::new();
    let (mut was_down, mut claims) = (false, 0);
    while !*stop.borrow() {
        let readiness = worker.readiness();
        let most = match readiness {
            Readiness::Ready => AT_ONCE,
            Readiness::Probe => 1,
            Readiness::LeftAlone(_) => 0,
        };
        match readiness {
            Readiness::Probe | Readiness::LeftAlone(LeftAlone::Down(_)) => was_down = true,
            Readiness::Ready if was_down => was_down = store.end_is_back(direction).await.is_err(),
            Readiness::Ready | Readiness::LeftAlone(LeftAlone::Full(_)) => {}
        }
        while under_way.len() < most {
            let first = match readiness {
                Readiness::Ready if claims % AT_ONCE == 0 => First::LongestDue,
                Readiness::Probe if claims % 2 == 0 => First::LatestUnfailed,
                Readiness::Ready | Readiness::Probe | Readiness::LeftAlone(_) => First::Unfailed,
            };
            match store.claim(direction, first).await {
                Ok(Some(claimed)) => {
                    claims += 1;
                    under_way.spawn(deliver(store.clone(), Arc::clone(&worker), claimed));
                }
                Ok(None) => break,
                Err(fault) => {
                    error!(direction = direction.as_str(), fault = %fault, "the queue cannot be read");
                    tokio::time::sleep(STORE_PAUSE).await;
                    break;
                }
            }
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = store.arrival() => {}
            Some(_) = under_way.join_next() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

async fn deliver<A: Attempt + 'static>(store: SqliteStore, worker: Arc<A>, claimed: Claimed) {
    let Claimed { delivery, history } = claimed;
    let mends = store.mends();
    let (id, attempts, failed) = (delivery.id.clone(), history.attempts.saturating_add(1), delivery.clone());
    // In a task of its own: a panic is a failed attempt, not a delivery that nobody has any more.
    let attempted = tokio::spawn(async move { worker.attempt(&delivery, history).await }).await;
    let end = attempted.unwrap_or_else(|_| {
        let reason = Reason::own(ReasonCode::Internal);
        Signal { reason: Some(reason), attempts, ..Signal::of_work(&failed, Became::Retried) }.tell();
        retry::try_later(history, reason, None, store.now(), store.chance())
    });
    // What the far end did must be known before anything else is sent, however long the store takes.
    while let Err(fault) = store.settle(&id, end).await {
        error!(delivery.id = %id, fault = %fault, "the end of an attempt cannot be recorded");
        tokio::time::sleep(STORE_PAUSE).await;
    }
    // Its attempt may have begun before what it is held for was mended.
    if matches!(end, Disposition::Hold { .. })
        && store.mends() != mends
        && let Err(fault) = store.free_one_held(&id).await
    {
        error!(delivery.id = %id, fault = %fault, "what is held could not be freed: it is tried within 15 minutes");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use jiff::{SignedDuration, Timestamp};
    use relay::ports::clock::{Ambient as _, System};
    use relay::ports::queue::Queue as _;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{Cargo, Delivery, DeliveryId, History};

    use super::*;
    use relay_sqlite::store::open;

    /// Held the first time; and while it is under way, what it is held for is mended, or not.
    struct HeldOnce {
        store: SqliteStore,
        mended: bool,
        tries: AtomicU32,
    }

    impl Attempt for HeldOnce {
        fn readiness(&self) -> Readiness {
            Readiness::Ready
        }

        async fn attempt(&self, _: &Delivery, _: History) -> Disposition {
            if self.tries.fetch_add(1, Ordering::SeqCst) > 0 {
                return Disposition::Delivered;
            }
            if self.mended {
                self.store.free_held().await.unwrap();
            }
            let at = System.now() + SignedDuration::from_hours(1);
            Disposition::Hold { at, reason: Reason::own(ReasonCode::NoWebhook) }
        }
    }

    /// How often a delivery was tried that was held, once nothing more happens to it by itself.
    async fn tries(mended: bool) -> u32 {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        let store = SqliteStore::new(opened, Arc::new(System));
        let delivery = Delivery {
            id: DeliveryId::of_webhook("a", "msg_1"),
            contact: ContactKey::of_email("ada@example.com"),
            cargo: Cargo::ClayRow { route: "a".to_owned(), webhook_id: "msg_1".to_owned() },
            body: Bytes::from_static(b"{}"),
            received_at: System.now(),
        };
        store.put(&delivery).await.unwrap();
        let attempt = Arc::new(HeldOnce { store: store.clone(), mended, tries: AtomicU32::new(0) });
        let claimed = store.claim(Direction::LoopsToClay, First::LongestDue).await.unwrap().unwrap();
        deliver(store.clone(), Arc::clone(&attempt), claimed).await;
        if let Some(again) = store.claim(Direction::LoopsToClay, First::LongestDue).await.unwrap() {
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
