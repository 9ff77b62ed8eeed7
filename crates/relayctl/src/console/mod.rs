//! The console of a relay: what `relay_console` shows of a stack, or of a data folder.

pub(crate) mod backend;
mod cache;
mod facts;
mod local;
mod metrics;
mod stack;
mod stores;
