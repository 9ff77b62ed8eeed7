//! Clay: webhook tables with their limits.

pub(crate) mod server;
pub(crate) mod state;
