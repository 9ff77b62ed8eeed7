//! What Lambda asks of a function: HTTP events, SQS batches, start-up, configuration and telemetry.

pub(crate) mod attempt;
pub mod batch;
pub mod config;
pub mod contact_order;
pub mod emf;
pub mod http;
pub mod init;
pub mod sqs;
pub mod telemetry;
pub(crate) mod time_budget;
pub mod worker;
