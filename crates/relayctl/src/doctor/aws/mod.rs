//! Checks of a deployed stack.

pub mod account;
pub mod cloudwatch;
pub mod ledger;
pub mod queues;
pub mod stack;
