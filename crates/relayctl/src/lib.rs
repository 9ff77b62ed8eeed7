#![doc = include_str!("../README.md")]

mod aws;
pub mod cli;
mod commands;
mod doctor;
mod error;
mod exit;
mod explain;
mod local;
mod operations;
mod output;
mod progress;
mod setup;
mod target;
