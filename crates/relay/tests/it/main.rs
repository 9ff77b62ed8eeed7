//! The handlers, the workers and the HTTP client, each from outside: against fakes of their ports, and against a server
//! that misbehaves on purpose.

#![expect(clippy::unwrap_used, reason = "what the helpers of these tests need is there, or the test fails")]

mod account_secrets;
mod api;
mod clay_delivery;
mod clay_row;
mod destinations;
mod fake_store;
mod harness;
mod http_client;
mod loops_delivery;
mod loops_webhook;
mod reroute;
mod schema_cache;
