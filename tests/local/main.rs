//! The relay as a program, against everything that its contract says.

#[path = "../store_contract/mod.rs"]
mod any_store;
mod chaos_smoke;
mod commands;
#[path = "../contract/mod.rs"]
mod contract;
mod durability;
mod freeze;
mod health;
mod pace;
mod relayctl;
mod reroute;
mod start;
mod store_failures;
mod unknown_routes;

pub(crate) use relay_testkit::relay_process::Relay;
pub(crate) use relay_testkit::store_harness::sqlite::SqliteHarness as Store;
