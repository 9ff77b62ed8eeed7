//! The chaos tests: runs every scenario on both deployments, and prints one table.
//!
//! usage: chaos [--seed N] [--only WORDS] [--report FILE] [relay-local|functions]
//!
//! `make chaos` runs it. The seed of a run is printed; the same seed repeats the faults and the rows, but not the
//! timing. The report has the table as JSON. The exit code is 1 if something was lost, processed twice, out of order, or duplicated without need.

use std::path::PathBuf;
use std::process::ExitCode;

use futures_util::stream::{self, StreamExt as _};
use relay_testkit::chaos::functions::FunctionsUnderTest;
use relay_testkit::chaos::kinds::WorkloadSize;
use relay_testkit::chaos::local::LocalUnderTest;
use relay_testkit::chaos::{RelayUnderTest, ReportRow, format_table, run_scenario};
use serde_json::{Value, json};

/// Scenarios that run in parallel.
const MAX_PARALLEL: usize = 4;

struct Options {
    seed: u64,
    only: String,
    report: Option<PathBuf>,
    relay: String,
}

fn parse_options() -> Option<Options> {
    let mut options = Options { seed: rand::random(), only: String::new(), report: None, relay: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => options.seed = arguments.next()?.parse().ok()?,
            "--only" => options.only = arguments.next()?,
            "--report" => options.report = Some(arguments.next()?.into()),
            LocalUnderTest::NAME | FunctionsUnderTest::NAME => options.relay = argument,
            _ => return None,
        }
    }
    Some(options)
}

async fn run_scenarios<F: RelayUnderTest>(options: &Options) -> Vec<ReportRow> {
    if !options.relay.is_empty() && options.relay != F::NAME {
        return Vec::new();
    }
    let scenarios =
        F::scenarios().into_iter().enumerate().filter(|(_, scenario)| scenario.name.contains(&options.only));
    let report_rows = scenarios.map(|(index, scenario)| async move {
        let seed = options.seed.wrapping_add(u64::try_from(index).unwrap_or_default());
        let rows = run_scenario::<F>(&scenario, WorkloadSize::FULL, seed).await;
        eprintln!("{}: {}: done", F::NAME, scenario.name);
        rows
    });
    stream::iter(report_rows).buffered(MAX_PARALLEL).collect::<Vec<_>>().await.into_iter().flatten().collect()
}

/// The table as JSON, with the columns that docs/chaos-testing.md describes.
fn report(rows: &[ReportRow], seed: u64) -> Value {
    let runs = rows.iter().map(|ReportRow { relay, scenario, direction, totals }| {
        json!({
            "form": relay,
            "fault": scenario,
            "direction": direction,
            "is_faulty": totals.is_faulty,
            "sent": totals.sent,
            "refused": totals.rejected,
            "delivered": totals.delivered,
            "unheard": totals.unacknowledged,
            "lost": totals.lost,
            "doubled": totals.duplicated,
            "doubled_without_need": totals.unjustified_duplicates,
            "disorder": totals.out_of_order,
            "sent_twice": totals.processed_twice,
        })
    });
    json!({"seed": seed, "runs": runs.collect::<Vec<_>>()})
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(wanted) = parse_options() else {
        eprintln!("usage: chaos [--seed N] [--only WORDS] [--report FILE] [relay-local|functions]");
        return ExitCode::from(2);
    };
    let mut rows = run_scenarios::<LocalUnderTest>(&wanted).await;
    rows.extend(run_scenarios::<FunctionsUnderTest>(&wanted).await);
    print!("{}", format_table(&rows, wanted.seed));
    if let Some(file) = &wanted.report {
        let text = format!("{:#}\n", report(&rows, wanted.seed));
        if let Err(error) = std::fs::write(file, text) {
            eprintln!("{}: {error}", file.display());
            return ExitCode::from(2);
        }
    }
    let passed = !rows.is_empty() && rows.iter().all(|line| line.totals.violations().is_empty());
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
