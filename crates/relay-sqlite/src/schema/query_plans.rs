//! How SQLite runs the statements of the store: none reads all deliveries or sorts them, so no cost grows with what is settled
//! or waits.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use relay::ports::admin::{Admin as _, DeliveryQuery};
use relay::ports::clock::{Clock as _, SystemClock};
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use crate::admin::{SqliteAdmin, queries};
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
    store.release_held(Some(&DeliveryId::random("1"))).await.unwrap();
    store.purge_delivered().await.unwrap();
    store.backlog(Direction::LoopsToClay).await.unwrap();
    let states = [None, Some(DeliveryState::Waiting), Some(DeliveryState::Delivered), Some(DeliveryState::Dead)];
    for state in states {
        for direction in [None, Some(Direction::ClayToLoops)] {
            for contact_hash in [None, Some("ada".to_owned())] {
                let query = DeliveryQuery { state, direction, contact_hash, ..DeliveryQuery::default() };
                admin.deliveries_page(&query, 10, None).await.unwrap();
            }
        }
    }
    let of_webhook = DeliveryQuery { webhook_id: Some("msg_1".to_owned()), ..DeliveryQuery::default() };
    admin.latest_deliveries(&of_webhook, 10, &|_| ()).await.unwrap();
    admin.delivery(&DeliveryId::random("1")).await.unwrap();
    admin.webhook_state("msg_1").unwrap();
    admin.queues().await.unwrap();
    admin.summary().unwrap();
    admin.changed(admin.last_seq().unwrap(), SystemClock.now()).unwrap();
    queries::dead_letters(&admin.connection, 0, 10).unwrap();
}

#[tokio::test]
async fn no_statement_reads_or_sorts_all_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let mut connections = open(dir.path(), SystemClock.now()).unwrap();
    let mut admin = SqliteAdmin::open(dir.path()).unwrap();
    [&mut connections.writer, &mut connections.reader, &mut admin.connection].into_iter().for_each(trace);
    let store = SqliteStore::new(connections, Arc::new(SystemClock));
    run_statements(&store, &admin).await;
    let statements: Vec<String> = std::mem::take(&mut *TRACED.lock().unwrap()).into_iter().collect();
    let explained = Connection::open(dir.path().join(crate::STORE_FILE)).unwrap();
    let is_query = |sql: &&String| ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb));
    assert!(statements.iter().filter(is_query).count() > 30, "{statements:#?}");
    for sql in statements.iter().filter(is_query) {
        let plan = plan(&explained, sql);
        assert!(!plan.iter().any(|step| grows(step)), "{sql}: {plan:#?}");
    }
}
