//! A few faults of the suite, briefly; `make chaos` goes through all of them, and for longer.

use relay_testkit::chaos::kinds::{DestinationFault, FaultScenario, RelayFault};
use relay_testkit::chaos::local::LocalUnderTest;

use crate::contract::faults::goes_through;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_ends_that_ail_the_relay_loses_nothing_and_keeps_the_order() {
    goes_through::<LocalUnderTest>(FaultScenario::relay_with_faulty_destinations(
        "relay killed, all",
        RelayFault::Kill,
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_full_store_the_relay_acknowledges_nothing_that_is_lost() {
    goes_through::<LocalUnderTest>(FaultScenario::relay("store full", RelayFault::StoreUnwritable)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_again_and_again_the_relay_loses_nothing_and_keeps_the_order() {
    goes_through::<LocalUnderTest>(FaultScenario::relay("relay frozen", RelayFault::Freeze)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_takes_a_row_and_resets_the_connection_gets_it_twice_at_the_most() {
    goes_through::<LocalUnderTest>(FaultScenario::destination(DestinationFault::AcceptThenReset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_end_refuses_for_good_is_kept_or_answered_so_and_what_is_behind_it_goes_on() {
    goes_through::<LocalUnderTest>(FaultScenario::destination(DestinationFault::RejectSome)).await;
}
