//! A deployed stack: the session, the stack's outputs, its log and its pause.

pub(crate) mod error;
pub mod pause;
pub mod sam_config;
pub mod session;
pub mod stack;
mod stores;
pub mod tail;
