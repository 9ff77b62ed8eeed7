//! What each destination's response leads to.

pub(crate) mod clay;
mod held;
pub(crate) mod loops;
mod sync;
