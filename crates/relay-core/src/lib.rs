#![doc = include_str!("../README.md")]

pub mod contact;
pub mod delivery;
pub mod delivery_state;
pub mod error;
pub mod idempotency;
pub mod policy;
pub mod reason;
pub mod row;
pub mod secret;
pub mod text;
pub mod webhook;
