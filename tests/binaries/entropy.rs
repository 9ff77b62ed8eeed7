//! The first TLS handshake gathers no entropy from the processor's jitter: that would cost 32 ms of CPU, and with the
//! share of a processor that 128 MB get, half a second.

use std::time::Duration;

use relay_testkit::cost::{Cost, median};
use relay_testkit::eventually;
use relay_testkit::function_harness::FunctionHarness;
use relay_testkit::function_harness::tls::TlsDestination;

use crate::{function_binary, load_harness};

/// The function under test: at its start it connects to `LOOPS_API_URL`.
const FUNCTION: &str = "clay-to-loops-contact";
/// Starts of each variant.
const RUNS_PER_VARIANT: usize = 7;
/// Handshakes with an untrusted destination at a start: for the connection, the account of the key, and the property list.
const HANDSHAKES_PER_START: usize = 3;
/// The most that a handshake may cost. It is processor time, and a tenfold of what one does cost.
const MAX_HANDSHAKE_CPU: Duration = Duration::from_millis(10);

async fn cpu_time_of_start(harness: &FunctionHarness, destination: Option<&TlsDestination>) -> Duration {
    let mut environment = harness.environment(FUNCTION);
    if let Some(destination) = destination {
        environment.insert("LOOPS_API_URL".to_owned(), destination.url("/api"));
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let sandbox = harness.start_function(FUNCTION, &function_binary(FUNCTION), &environment, log.path()).await;
    Cost::measure_stopped(sandbox.id().unwrap()).await.cpu
}

#[tokio::test]
async fn tls_handshake_at_start_costs_little_cpu_time() {
    let (harness, destination) = (load_harness().await, TlsDestination::start().await);
    let (mut plain, mut with_tls) = (Vec::new(), Vec::new());
    for _ in 0..RUNS_PER_VARIANT {
        plain.push(cpu_time_of_start(&harness, None).await);
        with_tls.push(cpu_time_of_start(&harness, Some(&destination)).await);
    }
    // Each start has shaken hands: otherwise nothing was measured.
    let expected_handshakes = RUNS_PER_VARIANT * HANDSHAKES_PER_START;
    eventually("every handshake of each start", async || {
        (destination.rejected_handshakes() == expected_handshakes).then_some(())
    })
    .await;
    let (plain, with_tls) = (median(&plain), median(&with_tls));
    println!("a start costs {plain:?} with http and {with_tls:?} with https");
    let handshake = with_tls.saturating_sub(plain) / u32::try_from(HANDSHAKES_PER_START).unwrap();
    assert!(handshake < MAX_HANDSHAKE_CPU, "a handshake costs {handshake:?}: http {plain:?}, https {with_tls:?}");
}
