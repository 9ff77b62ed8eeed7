//! Checks of a deployed stack.

pub(crate) mod account;
pub(crate) mod cloudwatch;
pub(crate) mod ledger;
pub(crate) mod queues;
pub(crate) mod stack;
