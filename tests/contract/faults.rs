//! The chaos tests that all deployments share.

use relay_testkit::chaos::kinds::{FaultScenario, WorkloadSize};
use relay_testkit::chaos::{RelayUnderTest, format_table, run_scenario};

/// Runs a scenario for a short time, with a new seed, which is printed; `RELAY_FAULT_SEED` repeats a seed that failed.
pub(crate) async fn assert_survives<F: RelayUnderTest>(scenario: FaultScenario) {
    let seed = std::env::var("RELAY_FAULT_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let report_rows = run_scenario::<F>(&scenario, WorkloadSize::SHORT, seed).await;
    println!("{}", format_table(&report_rows, seed));
    for row in report_rows {
        let violations = row.totals.violations();
        assert!(violations.is_empty(), "seed {seed}: {}, {}: {}", row.scenario, row.direction, violations.join("; "));
    }
}
