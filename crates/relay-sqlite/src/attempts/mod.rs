//! The worker's side: what it sends next, and what is recorded of it.

pub(crate) mod claim;
mod finish_attempt;
pub(crate) mod release;
