#![doc = include_str!("../README.md")]

pub mod assembly;
pub mod banner;
pub mod cli;
pub mod commands;
pub mod counts;
pub mod data_folder;
pub mod listen;
pub mod monitor;
pub mod serve;
pub mod server;
pub mod settings;
pub mod simulated;
pub mod store;
pub mod stored_settings;
pub mod telemetry;
pub mod worker;
