//! What is sent to a server, and what it sends on.

pub(crate) mod clay;
pub(crate) mod load;
pub(crate) mod requests;
