//! The functions stay within `tools/bench/budgets.toml`: instructions, connections, reads of their secret, size. None of it is
//! a time, so another machine, or one that is busy, comes to the same result.

use std::path::Path;

use relay_testkit::function_harness::callgrind::count_step;
use relay_testkit::function_harness::{FunctionHarness, HTTP_FUNCTIONS, QUEUE_FUNCTIONS};
use tempfile::NamedTempFile;

use crate::budget_file::Budgets;
use crate::{function_binary, load_harness, required_path};

/// Events of a sandbox in which connections and reads are counted.
const EVENTS: usize = 20;
/// Counts of a function before it is over its budget: on a busy machine a timer may ring in the middle of one.
const MAX_COUNTS: usize = 5;

fn functions() -> impl Iterator<Item = &'static str> {
    HTTP_FUNCTIONS.into_iter().chain(QUEUE_FUNCTIONS)
}

fn assert_within_budgets(exceeded: &[String]) {
    assert!(exceeded.is_empty(), "over budget (tools/bench/budgets.toml):\n{}", exceeded.join("\n"));
}

/// Returns what a function needs too many instructions for.
async fn exceeded_instructions(budgets: &Budgets, harness: &FunctionHarness, function: &str) -> Vec<String> {
    let log = NamedTempFile::new().unwrap();
    let counted = harness.count_instructions(function, &function_binary(function), log.path()).await;
    println!("{function}: {counted:?}");
    let phases = [
        ("start_instructions", counted.start),
        ("first_event_instructions", counted.first_event),
        ("later_event_instructions", counted.later_event),
    ];
    phases.into_iter().filter_map(|(phase, count)| budgets.exceeded(function, phase, count)).collect()
}

#[tokio::test]
async fn functions_stay_within_their_instructions() {
    let (budgets, harness) = (Budgets::load(), load_harness().await);
    let mut exceeded = Vec::new();
    for function in functions() {
        let mut last = Vec::new();
        for _ in 0..MAX_COUNTS {
            last = exceeded_instructions(&budgets, &harness, function).await;
            if last.is_empty() {
                break;
            }
        }
        exceeded.extend(last);
    }
    assert_within_budgets(&exceeded);
}

#[test]
fn steps_of_the_core_stay_within_their_instructions() {
    let budgets = Budgets::load();
    let steps = ["verify", "clean", "derive", "decide"];
    let exceeded = steps.into_iter().filter_map(|step| {
        let count = count_step(&function_binary("core-steps"), step);
        println!("{step}: {count}");
        budgets.exceeded("core", &format!("{step}_instructions"), count)
    });
    assert_within_budgets(&exceeded.collect::<Vec<_>>());
}

#[tokio::test]
async fn functions_open_few_connections_and_read_their_secret_once() {
    let budgets = Budgets::load();
    let mut exceeded = Vec::new();
    for function in functions() {
        let (harness, log) = (load_harness().await, NamedTempFile::new().unwrap());
        let environment = harness.environment(function);
        let mut sandbox = harness.start_function(function, &function_binary(function), &environment, log.path()).await;
        for _ in 0..EVENTS {
            harness.invoke(function, &mut sandbox).await;
        }
        let counts = [("connections", harness.connections()), ("secret_reads", harness.secret_reads())];
        println!("{function}: {counts:?}");
        exceeded.extend(counts.into_iter().filter_map(|(name, count)| budgets.exceeded(function, name, count)));
    }
    assert_within_budgets(&exceeded);
}

#[test]
fn zips_stay_within_their_size() {
    let (budgets, template) = (Budgets::load(), required_path("RELAY_TEMPLATE"));
    let zips = template.parent().unwrap_or(Path::new("."));
    let exceeded = functions().filter_map(|function| {
        let zip = zips.join(function).join("bootstrap.zip");
        let size = std::fs::metadata(&zip).unwrap_or_else(|error| panic!("{}: {error}", zip.display())).len();
        println!("{function}: {size}");
        budgets.exceeded(function, "zip_bytes", size)
    });
    assert_within_budgets(&exceeded.collect::<Vec<_>>());
}
