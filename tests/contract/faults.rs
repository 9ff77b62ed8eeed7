//! What is the same in every form of the relay when it goes through a fault.

use relay_testkit::chaos::kinds::{Fault, Size};
use relay_testkit::chaos::{Form, go_through, table};

/// Goes through a fault, briefly and with a new seed, which is printed; `RELAY_FAULT_SEED` gives one that failed before.
pub(crate) async fn goes_through<F: Form>(fault: Fault) {
    let seed = std::env::var("RELAY_FAULT_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let lines = go_through::<F>(&fault, Size::SHORT, seed).await;
    println!("{}", table(&lines, seed));
    for line in lines {
        let faults = line.count.faults();
        assert!(faults.is_empty(), "seed {seed}: {}, {}: {}", line.fault, line.direction, faults.join("; "));
    }
}
