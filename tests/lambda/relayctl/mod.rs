//! The CLI `relayctl` against a stack.

mod console;
mod dead_letters;
pub(crate) mod doctor;
mod doctor_secrets;
pub(crate) mod operations;
mod profile;
mod setup;
