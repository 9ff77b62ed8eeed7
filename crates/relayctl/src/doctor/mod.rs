//! The checks of `doctor`: `aws::examine` makes those of a stack, `local::examine` those of a data folder.

pub(crate) mod aws;
pub(crate) mod check;
pub(crate) mod endpoint;
pub(crate) mod finding;
pub(crate) mod live_send;
pub(crate) mod local;
mod routing;
pub(crate) mod secrets;
pub(crate) mod webhook_usage;
