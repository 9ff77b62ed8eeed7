//! How SQLite runs the statements of the store: none reads all deliveries or sorts them, so no cost grows with what is settled
//! or waits.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use relay::ports::admin::{Admin as _, DeliveryQuery};
use relay::ports::clock::{Clock as _, SystemClock};
use relay::ports::queue::Queue as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay::ports::webhook_usage::{Submission, WebhookLedger as _};
use relay_core::contact::ContactKey;
use relay_core::delivery::{AttemptResult, Delivery, DeliveryId, DeliveryKind, Direction, Reason, ReasonCode};
use relay_core::delivery_state::DeliveryState;
use relay_core::idempotency::IdempotencyKey;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use crate::admin::{SqliteAdmin, queries};
use crate::attempts::claim::ClaimOrder;
use crate::schema::{open, recover};
use crate::store::SqliteStore;

/// The statements that ran on a traced connection.
static TRACED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn trace(connection: &mut Connection) {
    fn record(event: TraceEvent<'_>) {
        if let TraceEvent::Stmt(statement, _) = event {
            TRACED.lock().unwrap().insert(statement.sql().into_owned());
        }
    }
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(record)).unwrap();
}

/// Returns the steps in which SQLite runs a statement ("EXPLAIN QUERY PLAN" of its documentation).
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get("detail").unwrap());
    }
    steps
}

/// Whether the time that a step takes grows with the number of deliveries.
fn grows(step: &str) -> bool {
    let scans_a_few = ["json_each", "totals", "CONSTANT ROW", "(subquery", "sqlite_schema"];
    step.contains("USE TEMP B-TREE") || step.starts_with("SCAN") && !scans_a_few.iter().any(|name| step.contains(name))
}

/// Runs everything that an operator, the start and the upkeep of the store ask of it.
async fn run_statements(store: &SqliteStore, admin: &SqliteAdmin) {
    recover(&admin.connection, SystemClock.now()).unwrap();
    store.release_all_held().await.unwrap();
    store.release_held(&DeliveryId::random("1")).await.unwrap();
    store.purge_delivered().await.unwrap();
    store.backlog(Direction::LoopsToClay).await.unwrap();
    let states = [None, Some(DeliveryState::Waiting), Some(DeliveryState::Delivered), Some(DeliveryState::Dead)];
    for state in states {
        for direction in [None, Some(Direction::ClayToLoops)] {
            for contact_hash in [None, Some("ada".to_owned())] {
                for (reason, held) in [(None, false), (None, true), (Some("expired".to_owned()), false)] {
                    let contact_hash = contact_hash.clone();
                    let query =
                        DeliveryQuery { state, direction, contact_hash, reason, held, ..DeliveryQuery::default() };
                    admin.deliveries_page(&query, 10, None).await.unwrap();
                }
            }
        }
    }
    let of_webhook = DeliveryQuery { webhook_id: Some("msg_1".to_owned()), ..DeliveryQuery::default() };
    admin.latest_deliveries(&of_webhook, 10, &|_| ()).await.unwrap();
    admin.delivery(&DeliveryId::random("1")).await.unwrap();
    admin.body(&DeliveryId::random("1")).await.unwrap();
    admin.webhook_state("msg_1").unwrap();
    admin.queues().await.unwrap();
    admin.summary().unwrap();
    admin.changed(admin.last_seq().unwrap(), SystemClock.now()).unwrap();
    queries::dead_letters(&admin.connection, 0, 10).unwrap();
}

/// Runs everything that a delivery asks of the store on its way.
async fn run_traffic(store: &SqliteStore) {
    let event = |key: &str| {
        let key = IdempotencyKey::from_stored(key.to_owned());
        Delivery {
            id: DeliveryId::for_event(&key),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: SystemClock.now(),
            kind: DeliveryKind::LoopsEvent { key },
            body: r#"{"email":"ada@example.com","eventName":"signed_up"}"#.into(),
        }
    };
    let reason = Reason::without_status(ReasonCode::TimedOut);
    let (at, no_early_retry, outcome_unknown) = (SystemClock.now(), false, true);
    let deferred = SyncSendResult::Deferred { attempts: 1, retry_at: at, reason, no_early_retry, outcome_unknown };
    for (number, result) in [SyncSendResult::Delivered, SyncSendResult::Rejected, deferred].into_iter().enumerate() {
        let delivery = event(&number.to_string());
        assert_eq!(store.admit(&delivery, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        let _guard = store.guard(&delivery);
        store.complete(&delivery, result).await.unwrap();
    }
    store.admit(&event("3"), DeliveryMode::Async).await.unwrap();
    store.admit_without_record(&event("4")).await.unwrap();
    store.dead_letter(&event("5"), reason).await.unwrap();
    store.admit(&event("5"), DeliveryMode::Async).await.unwrap();
    store.enqueue(&event("6")).await.unwrap();
    store.enqueue(&event("6")).await.unwrap();
    let orders = [ClaimOrder::Oldest, ClaimOrder::NeverFailed, ClaimOrder::NewestNeverFailed];
    let results = [
        AttemptResult::RetryAt { at, reason, no_early_retry },
        AttemptResult::HoldUntil { at, reason },
        AttemptResult::Delivered,
        AttemptResult::DeadLetter(reason),
    ];
    for (order, result) in orders.into_iter().cycle().zip(results) {
        let claimed = store.claim(Direction::ClayToLoops, order, 1).await.unwrap().remove(0);
        store.finish_attempt(&claimed.delivery.id, result.into()).await.unwrap();
    }
    store.release_on_recovery(Direction::ClayToLoops, None).await.unwrap();
    store.usage("contacts").await.unwrap();
    store.record("contacts", Submission::Accepted, at).await.unwrap();
    store.record("contacts", Submission::Rejected(404), at).await.unwrap();
}

#[tokio::test]
async fn no_statement_reads_or_sorts_all_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let mut connections = open(dir.path(), SystemClock.now()).unwrap();
    let mut admin = SqliteAdmin::open(dir.path()).unwrap();
    [&mut connections.writer, &mut connections.reader, &mut admin.connection].into_iter().for_each(trace);
    let store = SqliteStore::new(connections, Arc::new(SystemClock));
    run_traffic(&store).await;
    run_statements(&store, &admin).await;
    let statements: Vec<String> = std::mem::take(&mut *TRACED.lock().unwrap()).into_iter().collect();
    let explained = Connection::open(dir.path().join(crate::STORE_FILE)).unwrap();
    explained.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, true).unwrap();
    let is_query = |sql: &&String| ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb));
    assert!(statements.iter().filter(is_query).count() > 30, "{statements:#?}");
    for sql in statements.iter().filter(is_query) {
        let plan = plan(&explained, sql);
        assert!(!plan.iter().any(|step| grows(step)), "{sql}: {plan:#?}");
    }
}
