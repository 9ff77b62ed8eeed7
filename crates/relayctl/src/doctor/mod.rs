//! What `doctor` is made of: small checks, each with a name that the runbook has a section for.

pub mod account;
pub mod check;
pub mod clay_use;
pub mod door;
pub mod finding;
pub mod keys;
pub mod ledger;
pub mod local;
pub mod logs;
pub mod queues;
pub mod routing;
pub mod send;
pub mod stack;
