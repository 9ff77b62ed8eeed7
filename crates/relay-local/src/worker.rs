//! The loop that drains one direction of the store.

use std::sync::Arc;
use std::time::Duration;

use relay::pace::Readiness;
use relay::signal::{Became, Signal};
use relay::store::Attempt;
use relay_core::backoff;
use relay_core::delivery::{Direction, Disposition, Reason, ReasonCode};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::store::{Claimed, SqliteStore};

/// How many deliveries are under way at once: enough to keep the pace with a far end that takes a second to answer.
const AT_ONCE: usize = 8;
/// How often the store is asked for what has become due.
const POLL: Duration = Duration::from_millis(250);
/// How long the loop waits for a store that fails.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Drains the queue of a direction until `stop` says so; then it ends what is under way.
pub async fn drain<A>(store: SqliteStore, direction: Direction, worker: Arc<A>, mut stop: watch::Receiver<bool>)
where
    A: Attempt + 'static,
{
    let mut under_way = JoinSet::new();
    while !*stop.borrow() {
        let most = match worker.readiness() {
            Readiness::Ready => AT_ONCE,
            Readiness::Probe => 1,
            Readiness::LeftAlone(_) => 0,
        };
        while under_way.len() < most {
            match store.claim(direction).await {
                Ok(Some(claimed)) => {
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
        backoff::try_later(history, reason, None, store.now(), store.chance())
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
