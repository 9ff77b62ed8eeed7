#![doc = include_str!("../README.md")]

pub mod admin;
pub mod functions;
pub mod lambda;
pub mod ledger;
pub mod sdk;
pub mod secrets;
pub mod sqs;
