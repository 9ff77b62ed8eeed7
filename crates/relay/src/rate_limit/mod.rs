//! The rate limiter of a destination, and the circuit breaker inside it.

pub(crate) mod circuit_breaker;
pub mod limiter;
