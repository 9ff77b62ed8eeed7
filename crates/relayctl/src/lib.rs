#![doc = include_str!("../README.md")]

pub mod aws;
pub mod cli;
pub mod commands;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod local;
pub mod operations;
pub mod output;
pub mod progress;
pub mod setup;
pub mod target;
