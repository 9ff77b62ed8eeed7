#![doc = include_str!("../README.md")]

mod accounts;
pub mod admin;
mod claim;
mod contact_locks;
pub mod data_dir;
mod delivery_row;
mod failure_counts;
mod queue;
mod row_intake;
mod schema;
mod store;
mod store_files;
mod stored_event;
mod upkeep;
mod webhook_usage;

pub use claim::{ClaimOrder, ClaimedDelivery};
pub use data_dir::STORE_FILE;
pub use schema::{Connections, OpenError, open, open_existing};
pub use store::SqliteStore;
