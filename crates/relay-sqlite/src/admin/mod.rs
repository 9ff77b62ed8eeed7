//! The operator's ports on the store, beside a running relay or without one.

mod connection;
mod dead_letters;
mod deliveries;
pub(crate) mod pages;
pub(crate) mod queries;

pub use connection::Error;
pub use dead_letters::SqliteDeadLetters;
pub use deliveries::{SqliteAdmin, StoreSummary};
