//! One module for each command.

pub mod dead_letters;
mod dead_letters_run;
pub mod deliveries;
pub mod doctor;
pub mod pause;
pub mod setup;
pub mod shell;
pub mod show;
pub mod tail;
