//! Loops: contacts, events, e-mails and properties of one team, with its limits.

pub(crate) mod contact;
pub(crate) mod error;
pub(crate) mod idempotency;
pub(crate) mod operations;
pub(crate) mod properties;
pub(crate) mod server;
pub(crate) mod state;
pub(crate) mod transactional;
pub(crate) mod validation;
pub(crate) mod webhook;
