//! A deployed stack: the session, the stack's outputs, its log and its pause.

pub(crate) mod error;
pub(crate) mod pause;
pub(crate) mod sam_config;
pub(crate) mod session;
pub(crate) mod stack;
mod stores;
pub(crate) mod tail;
