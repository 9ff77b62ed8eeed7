//! A worker's attempt at one delivery, to Clay and to Loops.

pub mod clay;
pub mod loops;
pub(crate) mod outcome;
pub(crate) mod pool_usage;
mod reroute;
