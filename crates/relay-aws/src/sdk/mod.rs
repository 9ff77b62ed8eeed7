//! The AWS SDK: clients on the relay's own HTTP client, and their errors by kind.

pub mod clients;
pub mod error;
pub mod http;
