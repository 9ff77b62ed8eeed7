#![doc = include_str!("../README.md")]

pub mod backoff;
pub mod contact;
pub mod contact_properties;
pub mod decision;
pub mod delivery;
pub mod event;
pub mod idempotency;
mod object;
pub mod payload;
pub mod reason;
pub mod refusal;
pub mod route;
pub mod row;
pub mod secret;
pub mod selection;
pub mod signature;
pub mod text;
