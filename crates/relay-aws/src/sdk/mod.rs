//! The AWS SDK: clients on the relay's own HTTP client, and what their errors say.

pub mod clients;
pub(crate) mod error;
pub mod http;
