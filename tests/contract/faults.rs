//! What is the same in every form of the relay when it goes through a fault.

use relay_testkit::chaos::kinds::{FaultScenario, WorkloadSize};
use relay_testkit::chaos::{RelayUnderTest, format_table, run_scenario};

/// Goes through a fault, briefly and with a new seed, which is printed; `RELAY_FAULT_SEED` gives one that failed before.
pub(crate) async fn goes_through<F: RelayUnderTest>(fault: FaultScenario) {
    let seed = std::env::var("RELAY_FAULT_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let lines = run_scenario::<F>(&fault, WorkloadSize::SHORT, seed).await;
    println!("{}", format_table(&lines, seed));
    for line in lines {
        let faults = line.totals.violations();
        assert!(faults.is_empty(), "seed {seed}: {}, {}: {}", line.scenario, line.direction, faults.join("; "));
    }
}
