#![doc = include_str!("../README.md")]

pub mod aws_fault;
pub mod cli;
pub mod commands;
pub mod doctor;
pub mod ending;
pub mod fault;
pub mod local;
pub mod output;
pub mod progress;
pub mod sam_config;
pub mod session;
pub mod setup;
pub mod stack;
pub mod target;
