//! The checks of `doctor`.

pub(crate) mod aws;
pub(crate) mod check;
pub(crate) mod endpoint;
pub(crate) mod finding;
pub(crate) mod live_send;
pub(crate) mod local;
mod routing;
pub(crate) mod secrets;
pub(crate) mod webhook_usage;
