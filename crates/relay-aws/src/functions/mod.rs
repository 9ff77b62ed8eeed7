//! The composition root of each Lambda function.

pub mod clay_delivery;
pub mod clay_to_loops;
pub mod loops_delivery;
pub mod loops_to_clay;
pub(crate) mod setup;

/// The functions, by their binaries' names, which follow the stack's in their own.
pub const FUNCTION_NAMES: [&str; 6] = [
    "loops-to-clay",
    "clay-to-loops-contact",
    "clay-to-loops-event",
    "clay-to-loops-api",
    "clay-delivery",
    "loops-delivery",
];
