//! What any store does, of the services that are emulated inside a test's process.

#![recursion_limit = "256"]

mod accounts;
mod contact_items;
mod lost_responses;
#[path = "../store_contract/mod.rs"]
mod store_contract;
mod webhook_usage;
mod wrong_clock;

pub(crate) use relay_testkit::store_harness::aws_fake::AwsFakeHarness as Store;
