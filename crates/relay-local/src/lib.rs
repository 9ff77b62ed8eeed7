#![doc = include_str!("../README.md")]

pub mod app;
pub mod cli;
mod commands;
mod console;
mod http;
mod metrics;
mod refusal_lines;
pub mod reloading_secrets;
mod serve;
mod startup_banner;
mod telemetry;
pub mod trial;
pub mod worker;
