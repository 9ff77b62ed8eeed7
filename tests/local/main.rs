//! The one-machine relay as a process, against its whole contract.

mod addresses;
mod chaos_smoke;
mod commands;
mod console;
#[path = "../contract/mod.rs"]
mod contract;
mod destinations;
mod dry_run;
mod durability;
mod freeze;
mod half_requests;
mod health;
mod rate_limit;
mod relayctl;
mod reroute;
mod start;
#[path = "../store_contract/mod.rs"]
mod store_contract;
mod store_failures;

pub(crate) use relay_testkit::relay_process::Relay;
pub(crate) use relay_testkit::store_harness::sqlite::SqliteHarness as Store;
