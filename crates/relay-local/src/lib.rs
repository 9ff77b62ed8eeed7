#![doc = include_str!("../README.md")]

pub mod app;
pub mod cli;
pub mod commands;
mod http;
mod metrics;
pub mod reloading_secrets;
mod serve;
pub mod startup_banner;
mod telemetry;
pub mod worker;
