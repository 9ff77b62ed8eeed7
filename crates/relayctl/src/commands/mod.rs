//! One module for each command.

pub(crate) mod console;
pub(crate) mod dead_letters;
pub(crate) mod deliveries;
pub(crate) mod doctor;
pub(crate) mod pause;
pub(crate) mod setup;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod tail;
