//! The relay as a program, against everything that its contract says.

mod commands;
#[path = "../contract/mod.rs"]
mod contract;
mod durability;
mod faults;
mod monitor;
mod pace;
mod paths;
mod start;
mod stores;

pub(crate) use relay_tests::process::Relay;
