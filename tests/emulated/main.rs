//! What any store does, of the services that are emulated inside a test's process.

#[path = "../stores/mod.rs"]
mod stores;
mod trouble;

pub(crate) use relay_tests::any_store::emulated::Emulated as Store;
