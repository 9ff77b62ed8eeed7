#![doc = include_str!("../README.md")]

pub mod account;
pub mod attempts;
pub mod batch;
pub mod connector;
pub mod dead_letter;
pub mod door;
pub mod drain;
pub mod embedded_metrics;
pub mod envelope;
pub mod failures;
pub mod lane;
pub mod ledger;
pub mod managed_secret;
pub mod mended;
pub mod pace_item;
pub mod parking;
mod patience;
pub mod queue;
pub mod rows;
mod service_fault;
pub mod settings;
pub mod shared_pace;
pub mod start;
pub mod table;
pub mod telemetry;
pub mod webhook_use;
pub mod worker;
