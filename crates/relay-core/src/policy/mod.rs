//! What is done after an attempt: how a destination's response is classified, and when a delivery is retried.

pub mod response;
pub mod retry;
