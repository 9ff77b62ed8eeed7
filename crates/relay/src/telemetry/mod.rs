//! One event for each delivery, and the log and the metrics that are made of it.

pub mod event;
pub mod log;
pub mod metric;
