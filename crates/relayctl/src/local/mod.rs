//! A relay on this machine: its data folder, and its deliveries as they change.

pub mod error;
pub mod relay;
pub mod tail;
