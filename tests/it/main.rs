//! The relay as a program, against everything that its contract says.

#[path = "../stores/mod.rs"]
mod any_store;
mod commands;
#[path = "../contract/mod.rs"]
mod contract;
mod durability;
mod faults;
mod freeze;
mod monitor;
mod pace;
mod paths;
mod relayctl;
mod relayctl_operations;
mod relayctl_setup;
mod relayctl_terminal;
mod relayctl_words;
mod rerouted;
mod start;
mod stores;

pub(crate) use relay_tests::any_store::sqlite::Sqlite as Store;
pub(crate) use relay_tests::process::Relay;
