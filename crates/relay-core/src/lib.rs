#![doc = include_str!("../README.md")]

pub mod account;
mod account_id;
pub mod contact;
pub mod delivery;
pub mod delivery_state;
pub mod error;
pub mod idempotency;
mod json_fields;
mod placeholder;
pub mod policy;
pub mod row;
pub mod secret;
pub mod terminal;
pub mod text;
pub mod token;
pub mod webhook;
