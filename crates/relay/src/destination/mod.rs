//! Clay and Loops as destinations: their HTTP APIs, and the one HTTP client that calls them.

pub mod account_secrets;
pub mod clay;
pub(crate) mod connection_pool;
pub mod deadline;
pub mod http_client;
pub mod loops;
pub mod rate_limit_headers;
