#![doc = include_str!("../README.md")]

mod aws;
mod cli;
mod commands;
mod console;
mod delivery_change;
mod doctor;
mod error;
mod exit;
mod explain;
mod format;
mod local;
mod output;
mod progress;
mod setup;
mod target;

pub use cli::run;
