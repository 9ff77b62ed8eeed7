//! The first TLS handshake gathers no entropy from the processor's jitter: that would cost 32 ms of CPU, and with the share
//! of a processor that 128 MB get, half a second.

use std::time::Duration;

use relay_testkit::cost::{Cost, median};
use relay_testkit::eventually;
use relay_testkit::function_harness::FunctionHarness;
use relay_testkit::function_harness::tls::TlsDestination;

use crate::{binary, stage};

/// The function that is looked at: at its start it opens a connection to where `LOOPS_API_URL` says.
const FUNCTION: &str = "clay-to-loops-contact";
/// How often it is started each way.
const RUNS: usize = 7;
/// How often a start shakes hands with an end that it does not trust: for the connection, and for the list of properties.
const HANDSHAKES: usize = 2;
/// The most that a handshake may cost. It is processor time, and a tenfold of what one does cost.
const HANDSHAKE: Duration = Duration::from_millis(10);

async fn cost_of_start(stage: &FunctionHarness, far_end: Option<&TlsDestination>) -> Duration {
    let mut environment = stage.environment(FUNCTION);
    if let Some(far_end) = far_end {
        environment.insert("LOOPS_API_URL".to_owned(), far_end.url("/api"));
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let sandbox = stage.start_function(FUNCTION, &binary(FUNCTION), &environment, log.path()).await;
    Cost::measure_stopped(sandbox.id().unwrap()).await.cpu
}

#[tokio::test]
async fn a_tls_handshake_at_the_start_costs_little_processor_time() {
    let (stage, far_end) = (stage().await, TlsDestination::start().await);
    let (mut plain, mut with_tls) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        plain.push(cost_of_start(&stage, None).await);
        with_tls.push(cost_of_start(&stage, Some(&far_end)).await);
    }
    // Each start has shaken hands: otherwise nothing was measured.
    let all = RUNS * HANDSHAKES;
    eventually("every handshake of each start", async || (far_end.rejected_handshakes() == all).then_some(())).await;
    let (plain, with_tls) = (median(&plain), median(&with_tls));
    println!("a start costs {plain:?} with http and {with_tls:?} with https");
    let handshake = with_tls.saturating_sub(plain) / u32::try_from(HANDSHAKES).unwrap();
    assert!(handshake < HANDSHAKE, "a handshake costs {handshake:?}: http {plain:?}, https {with_tls:?}");
}
