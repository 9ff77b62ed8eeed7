//! The relay as a program, against everything that its contract says.

mod commands;
#[path = "../contract/mod.rs"]
mod contract;
mod durability;
mod faults;
mod pace;
mod paths;
mod relayctl;
mod relayctl_terminal;
mod start;
mod stores;

pub(crate) use relay_tests::process::Relay;
