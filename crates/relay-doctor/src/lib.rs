#![doc = include_str!("../README.md")]

pub mod check;
pub mod endpoint;
pub mod finding;
pub mod invocation;
pub mod live_send;
pub mod local;
pub mod local_error;
pub mod local_relay;
pub mod loops_key;
pub mod routing;
pub mod urls;
pub mod webhook_usage;
