#![doc = include_str!("../README.md")]

pub mod config;
pub mod delivery;
pub mod destination;
pub mod ingress;
pub mod operate;
pub mod ports;
pub mod rate_limit;
pub mod routes;
pub mod telemetry;
