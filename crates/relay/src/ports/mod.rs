//! What the use cases need of the outside. Adapters implement these traits.
//!
//! See docs/adr/0001-ports-as-async-traits.md.

pub mod accounts;
pub mod admin;
pub mod clock;
pub mod dead_letters;
pub mod delivery_status;
pub mod queue;
pub mod rate_limiter;
pub mod row_intake;
pub mod secrets;
pub mod webhook_usage;
