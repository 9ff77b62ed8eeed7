//! The HTTP entry points: Loops' webhooks, and the calls that Clay makes.

pub mod api;
pub(crate) mod authentication;
pub mod clay_row;
pub mod delivery_status;
pub mod host;
pub mod loops_read;
pub mod loops_webhook;
pub(crate) mod read_request;
pub mod request_body;
pub mod response;
pub(crate) mod row_outcome;
pub mod schema_cache;
pub(crate) mod sync_send;
