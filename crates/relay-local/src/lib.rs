#![doc = include_str!("../README.md")]

pub mod app;
pub mod cli;
pub mod commands;
pub mod http;
pub mod metrics;
pub mod reloading_secrets;
pub mod serve;
pub mod startup_banner;
pub mod telemetry;
pub mod worker;
