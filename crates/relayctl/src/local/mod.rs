//! A relay on this machine: its deliveries as they change, and what to do about its errors.

mod error;
pub(crate) mod tail;
