//! The SQS FIFO queues: sending, the message format, dead letters and the receive budget.
//!
//! See docs/adr/0006-sqs-fifo.md.

pub mod dead_letter;
pub mod message;
pub mod queue;
pub(crate) mod receive_limits;
