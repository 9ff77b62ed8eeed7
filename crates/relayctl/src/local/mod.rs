//! A relay on this machine: its data folder, and its deliveries as they change.

pub mod relay;
pub mod tail;
