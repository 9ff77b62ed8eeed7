#![doc = include_str!("../README.md")]

pub mod aws;
pub mod cli;
pub mod commands;
pub mod doctor;
pub mod error;
pub mod exit;
mod explain;
pub mod local;
pub mod operations;
pub mod output;
pub mod progress;
pub mod setup;
pub mod target;
