#![doc = include_str!("../README.md")]

pub mod advice;
pub mod backend;
pub mod connect;
mod console;
mod dead_letters;
mod deliveries;
pub mod error;
pub mod guard;
mod page;
pub mod router;
mod stream;
pub mod view;
