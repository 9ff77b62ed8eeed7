//! A few scenarios of the chaos tests, for a short time; `make chaos` runs all of them, and for longer.

use relay_testkit::chaos::kinds::{DestinationFault, FaultScenario, RelayFault};
use relay_testkit::chaos::local::LocalUnderTest;

use crate::contract::faults::assert_survives;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_faulty_destinations_lose_and_reorder_nothing() {
    assert_survives::<LocalUnderTest>(FaultScenario::relay_with_faulty_destinations(
        "relay killed, all",
        RelayFault::Kill,
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unwritable_store_loses_no_acknowledged_delivery() {
    assert_survives::<LocalUnderTest>(FaultScenario::relay("store full", RelayFault::StoreUnwritable)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_freezes_lose_and_reorder_nothing() {
    assert_survives::<LocalUnderTest>(FaultScenario::relay("relay frozen", RelayFault::Freeze)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accept_then_reset_delivers_at_most_twice() {
    assert_survives::<LocalUnderTest>(FaultScenario::destination(DestinationFault::AcceptThenReset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permanent_rejection_is_dead_lettered_and_unblocks_contact() {
    assert_survives::<LocalUnderTest>(FaultScenario::destination(DestinationFault::RejectSome)).await;
}
