#![doc = include_str!("../README.md")]

pub mod ambient;
pub mod answer;
mod breaker;
pub mod clay_api;
pub mod clay_delivery;
pub mod clay_to_loops;
mod connections;
mod direct;
mod ending;
pub mod http_client;
pub mod log;
pub mod loops_api;
pub mod loops_delivery;
pub mod loops_to_clay;
pub mod metric;
mod outcome;
pub mod pace;
mod pool_use;
pub mod property_list;
pub mod rerouting;
pub mod room;
pub mod secret_document;
pub mod secrets;
pub mod settings;
pub mod signal;
pub mod store;
pub mod time_limit;

/// The largest request that is read, in bytes: 256 KiB.
pub const REQUEST_BYTES: usize = 256 * 1024;
