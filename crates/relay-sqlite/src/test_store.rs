//! A store for tests, with a clock that they set.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::Clock;
use relay::ports::queue::Queue as _;
use relay_core::contact::ContactKey;
use relay_core::delivery::{AttemptResult, Delivery, DeliveryId, DeliveryKind, Direction, Reason, ReasonCode};

use crate::attempts::claim::{ClaimOrder, ClaimedDelivery};
use crate::schema::open;
use crate::store::SqliteStore;

/// A clock that is set.
#[derive(Debug)]
pub(crate) struct SetClock(Mutex<Timestamp>);

impl SetClock {
    pub(crate) fn advance(&self, hours: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_hours(hours);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn random(&self) -> f64 {
        0.5
    }

    fn new_id(&self) -> String {
        "1".to_owned()
    }
}

pub(crate) struct Folder {
    pub(crate) store: SqliteStore,
    pub(crate) clock: Arc<SetClock>,
    pub(crate) _dir: tempfile::TempDir,
}

pub(crate) fn store() -> Folder {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock(Mutex::new(Timestamp::constant(1_800_000_000, 0))));
    let store = SqliteStore::new(open(dir.path(), clock.now()).unwrap(), Arc::<SetClock>::clone(&clock));
    Folder { store, clock, _dir: dir }
}

pub(crate) async fn enqueue(store: &SqliteStore, webhook_id: &str, email: &str) {
    let delivery = Delivery {
        id: DeliveryId::for_webhook("a", webhook_id),
        contact: ContactKey::from_email(email),
        received_at: store.clock.now(),
        kind: DeliveryKind::ClayRow { route: "a".to_owned(), webhook_id: webhook_id.to_owned() },
        body: "{}".into(),
    };
    store.enqueue(&delivery).await.unwrap();
}

/// Claims eight deliveries at most, and returns the ids of their webhooks.
pub(crate) async fn claim(store: &SqliteStore, order: ClaimOrder) -> Vec<String> {
    let claimed = store.claim(Direction::LoopsToClay, order, 8).await.unwrap();
    let webhook_id = |claimed: ClaimedDelivery| match claimed.delivery.kind {
        DeliveryKind::ClayRow { webhook_id, .. } => webhook_id,
        _ => panic!("no row"),
    };
    claimed.into_iter().map(webhook_id).collect()
}

pub(crate) async fn finish(store: &SqliteStore, webhook_id: &str, result: AttemptResult) {
    store.finish_attempt(&DeliveryId::for_webhook("a", webhook_id), result.into()).await.unwrap();
}

pub(crate) async fn deliver(store: &SqliteStore, webhook_id: &str) {
    enqueue(store, webhook_id, "ada@example.com").await;
    assert_eq!(claim(store, ClaimOrder::Oldest).await, [webhook_id]);
    finish(store, webhook_id, AttemptResult::Delivered).await;
}

pub(crate) fn retry_in_an_hour(store: &SqliteStore, no_early_retry: bool) -> AttemptResult {
    let at = store.clock.now() + SignedDuration::from_hours(1);
    AttemptResult::RetryAt { at, reason: Reason::without_status(ReasonCode::TimedOut), no_early_retry }
}

/// Inserts more deliveries than one transaction changes, with these values of `state`, `settled_at` and `held_since`.
pub(crate) async fn insert_many(store: &SqliteStore, values: &'static str) {
    let sql = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1200)
         INSERT INTO deliveries (id, direction, contact, kind, body_hash, received_at, next_at, state, settled_at,
           held_since)
         SELECT n, 'loops-to-clay', n, 'row', 'h', 1, 1800003600000, {values} FROM numbers"
    );
    store.write(move |transaction| transaction.execute(&sql, [])).await.unwrap();
}
