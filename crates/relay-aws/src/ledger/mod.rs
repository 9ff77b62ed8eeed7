//! The DynamoDB table: the ledger of deliveries, contact locks, the shared rate limiter and counters.

pub mod accounts;
pub mod attempts;
pub mod contacts;
pub mod deliveries;
pub(crate) mod delivery_status;
pub mod failure_counts;
pub(crate) mod items;
pub mod limiter_item;
pub mod rate_limiter;
pub mod table;
pub(crate) mod waiting;
pub mod webhook_usage;
