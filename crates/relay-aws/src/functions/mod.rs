//! The composition root of each Lambda function.

pub mod clay_delivery;
pub mod clay_to_loops;
pub mod loops_delivery;
pub mod loops_to_clay;
pub(crate) mod setup;
