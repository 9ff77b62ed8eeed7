//! The SQS FIFO queues: sending, the message format, dead letters and the receive budget.

pub mod dead_letter;
pub mod message;
pub mod queue;
pub(crate) mod receive_limits;
