//! The relay as a program, against everything that its contract says.

mod answers;
mod cleaning;
mod commands;
mod durability;
mod pace;
mod rows;
mod start;
mod webhooks;
