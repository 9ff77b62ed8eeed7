//! A few scenarios of the chaos tests, for a short time; `make chaos` runs all of them, and for longer.

use relay_testkit::chaos::functions::FunctionsUnderTest;
use relay_testkit::chaos::kinds::{DestinationFault, FaultScenario, RelayFault};

use crate::contract::faults::assert_survives;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_destinations_lose_and_reorder_nothing() {
    assert_survives::<FunctionsUnderTest>(FaultScenario::all_destination_faults()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_ledger_loses_no_acknowledged_delivery() {
    assert_survives::<FunctionsUnderTest>(FaultScenario::relay(
        "DynamoDB in trouble",
        RelayFault::ServiceOutage("dynamodb"),
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_freezes_lose_and_reorder_nothing() {
    assert_survives::<FunctionsUnderTest>(FaultScenario::relay("relay frozen", RelayFault::Freeze)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accept_then_reset_delivers_at_most_twice() {
    assert_survives::<FunctionsUnderTest>(FaultScenario::destination(DestinationFault::AcceptThenReset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permanent_rejection_is_dead_lettered_and_unblocks_contact() {
    assert_survives::<FunctionsUnderTest>(FaultScenario::destination(DestinationFault::RejectSome)).await;
}
