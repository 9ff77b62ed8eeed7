#![doc = include_str!("../README.md")]

pub mod ambient;
pub mod answer;
mod breaker;
pub mod clay_api;
pub mod clay_delivery;
pub mod clay_to_loops;
mod direct;
mod ending;
pub mod http_client;
pub mod loops_api;
pub mod loops_delivery;
pub mod loops_to_clay;
mod outcome;
pub mod pace;
pub mod property_list;
pub mod room;
pub mod secret_document;
pub mod secrets;
pub mod settings;
pub mod store;

/// The largest request that is read, in bytes: 256 KiB.
pub const REQUEST_BYTES: usize = 256 * 1024;
