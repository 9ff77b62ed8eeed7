#![doc = include_str!("../README.md")]

mod attempt;
pub mod contact;
pub mod delivery;
pub mod delivery_state;
pub mod error;
pub mod idempotency;
mod json_fields;
pub mod policy;
mod reason;
pub mod row;
pub mod secret;
mod text;
pub mod webhook;
