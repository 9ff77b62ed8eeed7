//! Loops' webhooks: the signature, the event, the routes that select it, and the payload for Clay.

pub mod event;
mod json_object;
pub mod payload;
pub mod route;
pub mod selection;
pub mod signature;
