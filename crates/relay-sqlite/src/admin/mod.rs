//! What an operator asks of the store and does to it.

pub(crate) mod counts;
pub(crate) mod dead_letters;
pub(crate) mod pause;
pub(crate) mod queue_state;
pub(crate) mod report;
pub(crate) mod search;
