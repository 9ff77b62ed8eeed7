#![doc = include_str!("../README.md")]

pub mod admin;
pub mod claim;
mod contact_locks;
pub mod data_dir;
mod delivery_row;
mod failure_counts;
pub mod fast_path;
mod migrations;
pub mod queue;
mod release_held;
pub mod schema;
pub mod store;
mod webhook_usage;
