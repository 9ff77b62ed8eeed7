//! What `doctor` is made of: small checks, each with a name that the runbook has a section for.

pub mod aws;
pub mod check;
pub mod endpoint;
pub mod finding;
pub mod live_send;
pub mod local;
pub mod routing;
pub mod secrets;
pub mod webhook_usage;
