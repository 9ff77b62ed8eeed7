#![doc = include_str!("../README.md")]

pub mod config;
pub mod delivery;
pub mod destination;
pub mod ingress;
pub mod ports;
pub mod rate_limit;
pub mod telemetry;

/// The largest request that is read, in bytes: 256 KiB.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;
