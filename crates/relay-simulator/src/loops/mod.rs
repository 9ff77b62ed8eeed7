//! Loops: contacts, events and properties of one team, with its limits.

pub(crate) mod contact;
pub(crate) mod error;
pub(crate) mod server;
pub(crate) mod state;
pub(crate) mod validation;
