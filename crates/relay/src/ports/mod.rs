//! What the use cases need of the outside: a clock, stores and secrets. Adapters implement these traits.

pub mod clock;
pub mod queue;
pub mod secrets;
