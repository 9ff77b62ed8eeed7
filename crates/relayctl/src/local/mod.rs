//! A relay on this machine: its data folder, and its deliveries as they change.

pub(crate) mod error;
pub(crate) mod relay;
pub(crate) mod tail;
