#![doc = include_str!("../README.md")]

mod accounts;
pub mod admin;
mod attempts;
pub mod data_dir;
mod delivery_row;
mod durability;
mod failure_counts;
mod intake;
mod purge;
mod schema;
mod store;
#[cfg(test)]
mod test_store;
mod webhook_usage;

pub use attempts::claim::{ClaimOrder, ClaimedDelivery};
pub use attempts::release::ReleasePosition;
pub use data_dir::STORE_FILE;
pub use schema::{Connections, OpenError, open, open_existing};
pub use store::SqliteStore;
