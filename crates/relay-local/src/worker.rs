//! The loop that drains one direction of the store.

use std::sync::Arc;
use std::time::Duration;

use relay::pace::{LeftAlone, Readiness};
use relay::signal::{Became, Signal};
use relay::store::Attempt;
use relay_core::backoff;
use relay_core::delivery::{Direction, Reason, ReasonCode};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::store::{Claimed, First, SqliteStore};

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
            let failed_has_its_turn = readiness == Readiness::Ready && claims % AT_ONCE == 0;
            let first = if failed_has_its_turn { First::LongestDue } else { First::Unfailed };
            match store.claim_first(direction, first).await {
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
}
